"""The published recipes, one file each, on the library's blocks; teacher.py is the 100 % row."""
