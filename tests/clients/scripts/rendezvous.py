"""What torchrun's rendezvous and an all-reduce do, with sockets alone: rank 0 listens, all others bring their number."""

import os
import socket
import time

rank, size = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    with socket.create_server(place) as server:
        peers = [server.accept()[0] for _ in range(size - 1)]
        total = 1 + sum(int(peer.recv(10)) for peer in peers)
        for peer in peers:
            peer.sendall(str(total).encode())
else:
    for _ in range(600):
        try:
            peer = socket.create_connection(place)
            break
        except OSError:
            time.sleep(0.05)
    peer.sendall(str(rank + 1).encode())
    total = int(peer.recv(10))
print(f"rank {rank}/{size} node {os.environ['SLURM_NODEID']} local {os.environ['SLURM_LOCALID']}: sum {total}")
