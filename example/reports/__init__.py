"""What the site does in the background: its tasks, the pages that start them, the page that shows a job."""
