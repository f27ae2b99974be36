"""The scoreboard: reads records, compares them, draws the site. Imports no torch and none of our other folders."""
