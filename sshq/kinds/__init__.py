"""What a job is made of: JobSpec to Payload, pure."""
