// The application of TestApplication: it says what it finds, a line for each,
// and ends with the status that its first argument gives.
package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

func main() {
	fmt.Printf("arguments: %q\n", os.Args[1:])
	for _, name := range []string{"/proc/mounts", "/proc/partitions", "/etc/resolv.conf"} {
		text, err := os.ReadFile(name)
		if err != nil {
			fmt.Println(err)
		}
		for line := range strings.Lines(string(text)) {
			fmt.Printf("%s: %s\n", name, strings.Join(strings.Fields(line), " "))
		}
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		fmt.Println(err)
	}
	for _, i := range interfaces {
		addrs, _ := i.Addrs() // none, then
		fmt.Printf("%s: %v %v\n", i.Name, i.Flags&net.FlagUp, addrs)
	}
	random, err := os.Open("/dev/hwrng")
	if err == nil {
		_, err = random.Read(make([]byte, 16))
	}
	fmt.Printf("hwrng: %v\n", err)
	status, _ := strconv.Atoi(os.Args[1])
	os.Exit(status)
}
