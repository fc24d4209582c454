"""The tests of Aforesaid."""
