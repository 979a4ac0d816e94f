package result

// A Metric is something that is measured.
type Metric struct {
	Unit string // s, B, 1/s, or "" for a count
	X    string // what X is; "" for nothing
	What string
}

// Metrics are all that a sample may be of.
var Metrics = map[string]Metric{
	// Suite start. All times count from the moment before the runtime's program
	// is executed.
	"network":     {"s", "instances started at once", "making the network devices, before the clock starts"},
	"guest":       {"s", "instances started at once", "until the guest's first instruction"},
	"init":        {"s", "instances started at once", "until the first program of the system in it: /init of a guest, the application itself in a container"},
	"http":        {"s", "instances started at once", "until the first response with status 200 has been read"},
	"stop":        {"s", "instances started at once", "from asking it to end until its last process is gone"},
	"teardown":    {"s", "instances started at once", "from then until nothing of it is left: state of the runtime, cgroup, network devices"},
	"poll":        {"s", "instances started at once", "mean time between two attempts to connect"},
	"poll_max":    {"s", "instances started at once", "longest time between two attempts to connect"},
	"batch":       {"s", "instances started at once", "until the last of the instances has answered"},
	"read":        {"B", "", "of all that it is started from, what a start from an empty page cache has read into it"},
	"http_beside": {"s", "instances already running", "start to the first response, beside others that run (suite density)"},

	// Suite memory: what one more instance takes, idle, after its first response.
	"pss":           {"B", "instances", "proportional set size of its processes"},
	"private_dirty": {"B", "instances", "pages that it alone has, and wrote to"},
	"rss":           {"B", "instances", "resident set size of its processes"},
	"outside_guest": {"B", "instances", "resident beside the guest's RAM"},
	"page_tables":   {"B", "instances", "page tables of its processes"},
	"cgroup":        {"B", "instances", "memory.current of its cgroup"},
	"system":        {"B", "instances", "decrease of the host's MemAvailable"},
	"minimum":       {"B", "", "the smallest memory in which it starts and serves"},

	// Suites rest and sort.
	"requests":      {"1/s", "connections", "requests answered a second, each connection waiting for its response"},
	"client_cpu":    {"", "connections", "share of its processors that the load generator used"},
	"latency_p50":   {"s", "requests a second", "median latency, from when a request was due"},
	"latency_p90":   {"s", "requests a second", "90th percentile of latency"},
	"latency_p99":   {"s", "requests a second", "99th percentile of latency"},
	"latency_max":   {"s", "requests a second", "highest latency"},
	"success":       {"", "requests a second", "part of the requests answered with status 200"},
	"sort":          {"s", "integers", "sending an array, bubble sort, and reading the answer"},
	"density_sum":   {"B", "instances", "memory of all instances: proportional set sizes (suite density)"},
	"density_used":  {"B", "instances", "decrease of the host's MemAvailable since there was none (suite density)"},
	"density_p99":   {"s", "instances", "99th percentile of a request's latency, to all of them in turn (suite density)"},
	"density_limit": {"", "", "instances that ran (suite density)"},

	// Suite isolation.
	"syscalls":          {"", "", "distinct host system calls of the processes that run the workload"},
	"syscalls_start":    {"", "", "distinct host system calls of all of its processes, starting included"},
	"syscalls_open":     {"", "", "host system calls that the workload may make, as far as its seccomp filter goes"},
	"syscalls_escaped":  {"", "", "host system calls that the process running the workload may make, by the filters that the kernel has for its threads"},
	"capabilities":      {"", "", "capabilities that the process running the workload has"},
	"namespaces":        {"", "", "kinds of namespaces that it does not share with the host"},
	"rebuild":           {"s", "", "from a changed source to the first response: building, packing, starting"},
	"isolation_threads": {"", "", "threads of the host that serve it"},
}
