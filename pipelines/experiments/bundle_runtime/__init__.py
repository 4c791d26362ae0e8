"""What a bundle of a study carries beside our own modules: its runner, and the little it needs of four packages."""
