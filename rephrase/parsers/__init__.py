"""The forms that a style may demand of an output, a file each: how it is read, and how it is written again."""
