"""What is shown, as rows, columns and lines of text: pure functions of a snapshot."""
