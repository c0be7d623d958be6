#!/usr/bin/env bash
# Trains with pipeloom; the first time it also sets up .venv.
#   ./run_ppl.sh [flags]              on this machine
#   ./run_ppl.sh NODE_RANK [flags]    as one node of several: NNODES and MASTER_ADDR must be in the
#                                     environment; MASTER_PORT and NPROC_PER_NODE may be
#   srun --ntasks-per-node=1 ./run_ppl.sh [flags]    under Slurm, which knows all that (examples/slurm.sbatch)
# PLUGINS=a,b,c replaces the plugins. All further flags go to entry.py (see: ./run_ppl.sh --help).
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
usage() { echo "run_ppl.sh: $*" >&2; exit 2; }

cluster=()
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    [ -n "${NNODES:-}" ] && [ -n "${MASTER_ADDR:-}" ] ||
        usage "node $1 needs NNODES and MASTER_ADDR: NNODES=2 MASTER_ADDR=10.0.0.1 ./run_ppl.sh $1"
    cluster=(--node_rank "$1" --nnodes "$NNODES" --master_addr "$MASTER_ADDR")
    [ -z "${MASTER_PORT:-}" ] || cluster+=(--master_port "$MASTER_PORT")
    shift
elif [ -n "${SLURM_PROCID:-}" ] && [ -n "${SLURM_NODEID:-}" ]; then  # what is not given, core/config/cluster_environment.py finds
    [ -z "${NNODES:-}" ] || cluster+=(--nnodes "$NNODES")
    [ -z "${MASTER_ADDR:-}" ] || cluster+=(--master_addr "$MASTER_ADDR")
    [ -z "${MASTER_PORT:-}" ] || cluster+=(--master_port "$MASTER_PORT")
elif [ "${NNODES:-1}" != 1 ]; then
    usage "NNODES=$NNODES needs to know which node this is: ./run_ppl.sh NODE_RANK (0 to NNODES-1), or unset NNODES"
fi
[ -z "${NPROC_PER_NODE:-}" ] || cluster+=(--nproc_per_node "$NPROC_PER_NODE")

"$root/scripts/setup_env.sh"
exec "$root/.venv/bin/python" "$root/entry.py" --plugins "${PLUGINS:-inter_first,bert,wiki_ofrecord}" \
    ${cluster[@]+"${cluster[@]}"} "$@"
