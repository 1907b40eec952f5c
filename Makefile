# Every target is one line: what it runs is what you would type.
# Build output goes to $CARGO_TARGET_DIR, or ./target.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
STOKER := $(CARGO_TARGET_DIR)/debug/stoker
.DEFAULT_GOAL := help
.PHONY: help setup build data plugins demo test check simulate bench-scheduler bench-start bench-http bench-submit bench-events bench-engine bench-data trajectories metrics weights gates mutants api-fuzz chaos gpu

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## install what builds and tests need (Debian packages, Python venv, wasm target)
	@infra/setup.sh

build: ## build the stoker binary
	cargo build --bin stoker

data: ## fetch real data sets (all, or NAMES="mnist kjv") into the cache; checks what is there
	infra/data.sh $(NAMES)

plugins: ## build the sample plugins
	plugins/build.sh

demo: build plugins ## run the main job: server, data, plugins, training, result
	$(STOKER) demo --plugins $(CARGO_TARGET_DIR)/plugins

test: setup build plugins ## all tests, over the embedded adapters and real servers
	infra/test.sh

check: ## format, lints, docs, licences
	infra/check.sh

bench-start: build ## from POST to the first optimiser step, 1,000 jobs on a warm worker
	cargo run --quiet --example bench-start

bench-http: build ## our API beside a bare actix-web handler, under the same load
	cargo run --quiet --example bench-http

bench-submit: build ## jobs submitted a second, beside the raw limit, Celery and Ray
	benches/submit.sh

bench-events: build setup ## metric points beside MLflow: written, read whole, read thinned
	benches/events.sh

simulate: ## a million seeded events with every fault through the scheduler's decisions (EVENTS=20000 SEED=7)
	cargo run --quiet --release -p stoker-scheduler --example simulate -- $(or $(EVENTS),1000000) $(or $(SEED),1)

bench-scheduler: ## placements, latency and memory at 10,000 workers and 100,000 queued jobs
	cargo run --quiet --release -p stoker-scheduler --example bench-scheduler

bench-engine: ## training steps beside PyTorch and JAX: speed, losses, memory
	benches/engine.sh

bench-data: ## the readers beside polars and PyTorch's DataLoader: speed, memory
	benches/data.sh

trajectories: ## record PyTorch's losses anew, which the engine's tests are held against
	benches/trajectories.sh

metrics: ## record scikit-learn's values anew, which the built-in metrics are held against
	benches/metrics.sh

weights: ## run what finished jobs leave in PyTorch and onnxruntime
	benches/weights.sh

gates: build ## what right trainers reach on real data, three seeds each (all, or NAMES="mnist"; SEEDS="0")
	$(if $(filter-out digits,$(or $(NAMES),all)),infra/data.sh $(subst ratings,ml-100k,$(filter-out digits,$(or $(NAMES),mnist spam airline traffic ratings brain italy-power gun-point arrow-head osu-leaf kjv))))
	cargo run --quiet --example gates -- "$${STOKER_SAMPLES_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/stoker/data}" $(NAMES)

mutants: ## break the engine's orders of summation, one at a time; each must be seen by a test
	infra/mutants.sh

api-fuzz: build ## what the OpenAPI document allows, and what it doesn't, by schemathesis (SECONDS_MAX=60 SEED=7)
	infra/api-fuzz.sh $(STOKER)

chaos: build setup ## jobs while processes, servers, networks and clocks break (JOBS=1000 SEED=7)
	infra/with-venv.sh cargo run --quiet --example chaos -- $(or $(JOBS),1000) $(SEED)

gpu: ## the engine's suites on a real GPU
	@echo "there is no CUDA device yet: the engine runs on the CPU" && exit 1
