# One command each; every target sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup bench-embeddings bench-metrics bench-models bench-serving bench-simulation bench-smoke bench-training demo test test-long test-mutations test-stack lint types contracts clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unmuffle needs Python 3.11 or newer; point PYTHON at one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

demo: $(READY)          ## the main job on the shipped corpus: simulate, train, evaluate, gate, promote, serve
	$(BIN)/python -m pipelines.demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

test: lint types contracts   ## what every change must pass
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long" --numprocesses 2 --dist loadfile

test-long: $(READY)     ## whole pipelines, kill storms
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m long --timeout 3300 --numprocesses 2 --dist loadfile

test-stack: $(READY)    ## the whole pipeline on PostgreSQL, MLflow, S3 and two Ray nodes, which it starts and stops
	UNMUFFLE_TEST_STACK=required OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long tests/test_stack.py --timeout 900 --durations 5

test-mutations: $(READY)   ## plants each listed fault and names the test that catches it
	$(BIN)/python tests/mutations.py

bench-embeddings: $(READY)   ## a step of BSP-MPNet with embeddings computed each time, and with those from the store
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.embeddings

bench-distillation: $(READY)   ## five seeds with a teacher and without: features, SI-SDR, time saved
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.distillation

bench-metrics: $(READY)   ## utterances per second and core of every metric
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -P benchmarks/metrics.py

bench-models: $(READY)   ## time and memory of every network, forward and backward, by threads and by length
	OMP_WAIT_POLICY=passive $(BIN)/python -m benchmarks.models
	OMP_WAIT_POLICY=passive $(BIN)/python -m benchmarks.streaming
	OMP_WAIT_POLICY=passive $(BIN)/python -m benchmarks.sampling

bench-serving: $(READY)   ## what Ray Serve adds to the bare engine: latency, throughput, streams, the batching window
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.serving

bench-smoke: $(READY)   ## trains the smoke recipes, five minutes each, and says whether each learnt what it promises
	OMP_WAIT_POLICY=passive $(BIN)/python -m benchmarks.smoke

bench-simulation: $(READY)   ## audio-hours per core-hour of simulation, beside a bare loop over the same rows
	$(BIN)/python -m benchmarks.simulation

bench-training: $(READY)   ## step time of the whole training stack beside a bare PyTorch loop; input, checkpoints, resume
	$(BIN)/python -m benchmarks.training

clean:
	rm -rf .venv .unmuffle build dist
