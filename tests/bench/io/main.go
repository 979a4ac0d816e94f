// Io measures a guest's disks and networks under vmm and under QEMU's microvm.
// The two take turns, each with the same kernel, initial RAM disk, image files
// and flags of fio and iperf3; a guest does all jobs in one start and prints a
// line for each (init). It runs in the lab: see run.
package main

import (
	"encoding/csv"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
)

// config is what all guests have in common.
type config struct {
	vmm, kernel, initrd, tools, images string
	jobs                               string
	requests                           int
}

// sample is what a guest found.
type sample struct {
	round   int
	monitor string
	job     string
	value   float64
}

func main() {
	log.SetFlags(0)
	var c config
	flag.StringVar(&c.vmm, "vmm", "bin/vmm", "the vmm `file`")
	flag.StringVar(&c.kernel, "kernel", "", "the guest's kernel `file`")
	flag.StringVar(&c.initrd, "initrd", "", "its initial RAM disk `file`")
	flag.StringVar(&c.tools, "tools", "", "image `file` with fio and iperf3")
	flag.StringVar(&c.images, "images", "", "`folder` with the images cached.img and direct.img")
	flag.StringVar(&c.jobs, "jobs", strings.Join(allJobs(), ","), "what to measure")
	flag.IntVar(&c.requests, "requests", 2048, "of each 4 KiB job; a 128th of it in MiB goes over the network")
	rounds := flag.Int("rounds", 5, "starts of each monitor")
	names := flag.String("monitors", "vmm,qemu:pci", "vmm, qemu, or qemu:OPTION:OPTION with pci, mmio, noiothread, threads, native, io_uring")
	out := flag.String("csv", "", "`file` for the raw data")
	flag.Parse()

	var samples []sample
	monitors := strings.Split(*names, ",")
	for round := range *rounds {
		for _, name := range monitors {
			found, err := measure(c, name)
			if err != nil {
				log.Printf("round %d, %s: %v", round, name, err)
			}
			for i := range found {
				found[i].round, found[i].monitor = round, name
			}
			samples = append(samples, found...)
			if *out != "" {
				if err := save(*out, samples); err != nil {
					log.Fatal(err)
				}
			}
		}
	}
	fmt.Print(table(samples, monitors))
}

// save writes the raw data.
func save(path string, samples []sample) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	rows := [][]string{{"round", "monitor", "job", "value"}}
	for _, s := range samples {
		rows = append(rows, []string{strconv.Itoa(s.round), s.monitor, s.job, strconv.FormatFloat(s.value, 'f', -1, 64)})
	}
	return csv.NewWriter(f).WriteAll(rows)
}
