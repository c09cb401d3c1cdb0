"""How the work is started in many a tutorial, beside how this site does it."""
