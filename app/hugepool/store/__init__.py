"""Rows in, rows out: the database behind the hosts.  Nothing else of hugepool speaks SQL."""
