"""OpenSearch as the vector index. This package is the only place that imports opensearch-py and urllib3."""
