"""The only code that touches databags and charm secrets."""
