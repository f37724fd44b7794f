"""Serves a GGUF model with llama.cpp's own HTTP server until it is killed.

Usage: serve.py MODEL PORT. Prints `listening` on its own line once requests are answered.
"""

import sys
import time

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = int(sys.argv[2])
params.hostnames = ["127.0.0.1"]
params.model_alias = ["tiny-random"]
params.api_keys = ["sk-engine"]
params.n_ctx = 16384
params.n_parallel = 4
params.cpuparams.n_threads = 1
params.endpoint_metrics = True
params.warmup = False
params.offline = True
params.ui = False

server = xllamacpp.Server(params)
print("listening", server.listening_address, flush=True)
while True:
    time.sleep(3600)
