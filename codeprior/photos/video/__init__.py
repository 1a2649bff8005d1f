"""Videos: the faces of every frame restored, followed through time and kept steady, in constant memory."""

from codeprior.photos.video.frames import FrameRestorer
from codeprior.photos.video.reading import VideoError
from codeprior.photos.video.restoration import VideoReport, restore_video
from codeprior.photos.video.steady import Steadiness
from codeprior.photos.video.tracks import Tracker

__all__ = ["FrameRestorer", "Steadiness", "Tracker", "VideoError", "VideoReport", "restore_video"]
