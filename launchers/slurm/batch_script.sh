#!/bin/bash
# @@directives@@

# What a login shell sets for srun and scontrol; a job may start with it (--export=NONE, --get-user-env). Variables
# that sbatch itself sets for srun stay.
unset "${!SRUN_@}" "${!SCONTROL_@}" SLURMD_DEBUG \
    SLURM_{ACCOUNT,BCAST,BCAST_EXCLUDE,BURST_BUFFER,CLUSTERS,COMPRESS,CONF_OUT,CONSTRAINT,CORE_SPEC,CPU_BIND} \
    SLURM_{DEBUG,DELAY_BOOT,DEPENDENCY,DISABLE_STATUS,EPILOG,EXACT,EXCLUSIVE,EXIT_ERROR,EXIT_IMMEDIATE,GRES} \
    SLURM_{GRES_FLAGS,IMMEDIATE,KILL_BAD_EXIT,LABELIO,MPI_TYPE,NETWORK,NO_KILL,OVERLAP,PARTITION} \
    SLURM_{PMI_KVS_NO_DUP_KEYS,POWER,PROLOG,QOS,REMOTE_CWD,REQ_SWITCH,RESERVATION,RESV_PORTS,SEND_LIBS,SIGNAL} \
    SLURM_{SPREAD_JOB,SRUN_REDUCE_TASK_EXIT_MSG,STDERRMODE,STDINMODE,STDOUTMODE,STEP_GRES,STEP_KILLED_MSG_NODE_ID} \
    SLURM_{TASK_EPILOG,TASK_PROLOG,TEST_EXEC,THREADS,THREAD_SPEC,TIMELIMIT,TIME_FORMAT,UNBUFFEREDIO} \
    SLURM_{USE_MIN_NODES,WAIT,WAIT4SWITCH,WCKEY,WORKING_DIR}

# Where this start's part of the job's log begins: what SLURM wrote before is of another start.
# (By another number: where its own errors go, /dev/fd/2 would no longer be the log.)
log_size() { stat -Lc %s /dev/fd/3 3>&2 2>/dev/null || echo 0; }
HYPERFORMER_LOG_FROM="$(log_size)"
export HYPERFORMER_LOG_FROM HYPERFORMER_JOB_STATE

# When SLURM ends the job; the run stops ahead of that. Only newer versions of SLURM tell it.
time_limit=@@seconds@@
export HYPERFORMER_DEADLINE="${SLURM_JOB_END_TIME:-$(($(date +%s) + time_limit))}"
export SUBMITIT_EXECUTOR=slurm
# @@environment@@
# @@setup@@

start() {
    srun --unbuffered --export=ALL --kill-on-bad-exit=1 --output=@@output@@ --error=@@error@@ @@srun_options@@ \
        @@python@@ -u -m launchers.job @@record@@
}

# SLURM_JOB_ID alone may be the whole array's id, too.
job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
# SIGTERM is for the run, which saves first; this script ends after it.
trap : TERM
code=75
while [ "$code" -eq 75 ]; do # the epilogue asks for another start in this job
    status=0
    HYPERFORMER_JOB_STATE=
    start || status=$? # the set-up commands may have set -e
    trap '' TERM
    # Is SLURM ending the job? Asked out here: a container has no scontrol.
    [ "$status" -eq 0 ] || HYPERFORMER_JOB_STATE="$(scontrol show job --oneliner "$job" 2>/dev/null)" || true
    log_end="$(log_size)"
    code=0
    @@epilogue_python@@ -u -m launchers.job.epilogue @@record@@ "$status" "$0" || code=$?
    HYPERFORMER_LOG_FROM="$log_end"
    trap : TERM
done

# 76: the epilogue asks for a requeue that it cannot make itself: a container has neither scontrol nor sbatch.
[ "$code" -ne 76 ] || scontrol requeue "$job"

# The page of the report: never the job's failure, and never longer than the job. It ends at SIGTERM.
if @@renew_report@@ && [ "$((HYPERFORMER_DEADLINE - $(date +%s)))" -gt 180 ]; then
    timeout --kill-after=5 120 @@host_python@@ -u -m launchers.renew @@folder@@ || true
fi
exit "$code"
