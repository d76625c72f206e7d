"""Tests, a folder per part of forno. Folders are packages, so that files in two of them may have one name."""
