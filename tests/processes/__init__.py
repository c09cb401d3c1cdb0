"""Real workers, real kills. The ground truth is a file that tasks append to (``tests.project.tasks.tell``)."""
