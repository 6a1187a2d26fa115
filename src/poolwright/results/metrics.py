"""Numbers for Prometheus, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """What the repository counts; `/metrics` prints it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.uploads = Counter(
            "poolwright_results_uploads",
            "Result uploads by how they ended: stored, or the code of the refusal.",
            ["outcome"],
            registry=self.registry,
        )
        self.received = Counter(
            "poolwright_results_received_bytes", "Bytes written to the disk.", registry=self.registry
        )
        self.upload_seconds = Histogram(
            "poolwright_results_upload_seconds",
            "From the first byte of an upload to its answer.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
            registry=self.registry,
        )
        self.uploading = Gauge("poolwright_results_uploading", "Uploads running now.", registry=self.registry)
        self.stored = Gauge("poolwright_results_stored", "Tasks with a result.", registry=self.registry)
        self.swept_files = Counter(
            "poolwright_results_swept_files",
            "Files removed after the end of the task that they came for.",
            registry=self.registry,
        )
        self.swept_bytes = Counter(
            "poolwright_results_swept_bytes", "Bytes of these files.", registry=self.registry
        )
        self.free = Gauge(
            "poolwright_results_free_bytes", "Bytes that new files may still take.", registry=self.registry
        )
        self.connections = Gauge(
            "poolwright_results_connections", "Open connections, idle ones too.", registry=self.registry
        )
        self.responses = Counter(
            "poolwright_results_responses",
            "HTTP answers by method and status.",
            ["method", "status"],
            registry=self.registry,
        )
