"""The transports against real servers: sshd on loopback, ssh-agent, paramiko as the one that misbehaves."""
