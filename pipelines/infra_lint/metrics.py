"""Names of metrics that are really exported, and how an expression of Prometheus names them."""

import re

RAY = {
    "serve_num_http_requests",
    "serve_num_http_error_requests",
    "serve_http_request_latency_ms",
    "serve_deployment_processing_latency_ms",
    "serve_deployment_queued_queries",
    "serve_num_ongoing_requests_at_replicas",
    "serve_deployment_replica_healthy",
    "serve_autoscaling_target_replicas",
    "serve_replica_utilization_percent",
    "train_controller_state",
    "train_report_total_blocked_time_s",
    "train_checkpoint_transfer_total_time_s",
    "train_worker_group_start_total_time_s",
    "data_operator_queued_blocks",
    "data_memory_usage_bytes",
    "data_output_rows",
    "node_gpus_utilization",
    "node_cpu_utilization",
    "node_mem_used",
    "node_gram_used",
}
"""Of Ray 2.60, exported with the prefix `ray_`; a test holds each against the installed Ray."""
OURS = {"unmuffle_fingerprints"}
"""Of our service, exported by Ray with the same prefix; a test holds each against `serving/telemetry.py`."""
OTHERS = {
    "kuberay_job_info",
    "kuberay_job_deployment_status",
    "kuberay_job_execution_duration_seconds",
    "kuberay_cluster_condition_provisioned",
    "kuberay_service_condition_ready",
    "kuberay_service_condition_upgrade_in_progress",
    "kube_pod_container_resource_requests",
    "kube_cronjob_status_last_successful_time",
    "kube_deployment_status_replicas_available",
}
"""Of KubeRay 1.7's operator and kube-state-metrics 2, from their documentation."""
SUFFIXES = ("_total", "_bucket", "_sum", "_count", "")
"""What Prometheus' forms of counters and histograms add."""

NAME = re.compile(r"\b(?:ray|kuberay|kube|unmuffle)_\w+")
LABELS = re.compile(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)|\{[^}]*\}")


def unknown(expression: str) -> list[str]:
    """Metrics in an expression that nobody exports."""
    return [name for name in NAME.findall(LABELS.sub(" ", expression)) if not _exported(name)]


def _exported(name: str) -> bool:
    known = {f"ray_{one}" for one in RAY | OURS} | OTHERS
    return any(name.endswith(suffix) and name.removesuffix(suffix) in known for suffix in SUFFIXES)
