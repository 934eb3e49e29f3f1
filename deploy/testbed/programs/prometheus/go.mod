module stornx.io/testbed/prometheus

go 1.24.0

tool github.com/prometheus/prometheus/cmd/prometheus

require github.com/prometheus/prometheus v0.311.3
