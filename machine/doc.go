// Package machine puts a virtual computer together and runs it: [New] reads
// as its parts list, [Machine.Run] starts the processors and says how it
// ended.
package machine
