"""Where networks come from: a module for each library or kind of file, behind one door."""
