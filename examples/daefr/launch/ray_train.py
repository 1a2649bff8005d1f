"""DAEFR's stages as Ray Train jobs; `codeprior.training.ray_train` does the same for every family.

`python -m codeprior.recipes.daefr.launch.ray_train --workers 8 -- hq_codebook --faces /data/ffhq --out /shared/runs/hq`
"""

import sys
from functools import partial

from codeprior.training import ray_train

main = partial(ray_train.main, module="codeprior.recipes.daefr.train")

if __name__ == "__main__":
    sys.exit(main())
