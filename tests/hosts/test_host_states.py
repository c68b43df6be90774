"""States of a host: rest after failed logins, host keys, a gone agent, drain and down by an operator."""
