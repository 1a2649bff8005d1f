"""Recipes: whole models written from the library's blocks, installed as the package `codeprior.recipes`."""
