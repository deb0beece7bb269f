"""Teachers of students: their predictions, stored beforehand or computed in each step."""
