"""Clients, watchers and probers that ask all the time and record everything with one clock."""
