package trace

import (
	"bufio"
	"bytes"
	hexcode "encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// table holds an instruction of each form that Linux's text has, and what objdump
// calls it. TestObjdumpKernel writes it.
const table = "testdata/objdump.txt"

// The disassembly is objdump's, form by form.
func TestObjdump(t *testing.T) {
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 3 {
			t.Fatalf("%q is not an address, code and text", line)
		}
		addr, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		code, err := hexcode.DecodeString(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := oneInstruction(code, addr); got != fields[2] {
			t.Errorf("% x: %s; objdump has %s", code, got, fields[2])
		}
		n++
	}
	if n < 1000 {
		t.Errorf("%d instructions: the table is not whole", n)
	}
}

// The whole text of a kernel, the ELF file VMM_VMLINUX, against objdump. With
// VMM_UPDATE=1 the table of TestObjdump is made of it.
func TestObjdumpKernel(t *testing.T) {
	kernel := os.Getenv("VMM_VMLINUX")
	if kernel == "" {
		t.Skip("VMM_VMLINUX is not set: make test-disassembly sets it")
	}
	cmd := exec.Command("objdump", "-d", "-w", "-M", "intel", kernel)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all, wrong, forms := 0, map[string]int{}, map[string]string{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		addr, code, want, ok := objdumpLine(lines.Text())
		if !ok {
			continue
		}
		all++
		got := oneInstruction(code, addr)
		name, _, _ := strings.Cut(want, " ")
		if got != want {
			if wrong[name]++; wrong[name] == 1 {
				t.Errorf("%x: % x: %s; objdump has %s", addr, code, got, want)
			}
			continue
		}
		if f := form(want); forms[f] == "" {
			forms[f] = fmt.Sprintf("%x\t%x\t%s\n", addr, code, want)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions of %d forms; different ones by name: %v", all, len(forms), wrong)
	if os.Getenv("VMM_UPDATE") != "" {
		var b bytes.Buffer
		lines := make([]string, 0, len(forms))
		for _, line := range forms {
			lines = append(lines, line)
		}
		slices.Sort(lines)
		for _, line := range lines {
			b.WriteString(line)
		}
		if err := os.WriteFile(table, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func oneInstruction(code []byte, addr uint64) string {
	text, n, err := disassemble(code, addr, 64, func(uint64) (string, uint64) { return "", 0 })
	if err != nil {
		return err.Error()
	}
	if n != len(code) {
		return fmt.Sprintf("%s, of %d bytes", text, n)
	}
	return uniform(text)
}

var (
	comment   = regexp.MustCompile(`\s+(<.*>)?(\s*#.*)?$`)
	toSegment = regexp.MustCompile(`^mov ([cdefgs]s), e?([a-d]x|[sd]i|bp|sp)$`)
	// idle are prefixes that change nothing: compilers put them before NOPs and
	// branches to make them longer.
	idle = regexp.MustCompile(`^((data16|cs|ds|rex(\.[wrxb]+)?) )+`)
	// unlike is what is left out of the comparison, each for a reason:
	// x87 and its registers, which x86asm names as Intel does; instructions of
	// which x86asm has no operands or knows nothing; bytes that are no code;
	// far returns; instructions newer than x86asm.
	unlike = regexp.MustCompile(`^(f[a-z]+|rdrand|rdseed|retf|retfq|sysret[dq]|lsl|monitorx|mwaitx|tpause|tilerelease|repnz|repz|rex|test [a-z ]*st)\b`)
)

// objdumpLine reads a line of objdump's, unless it is to be left out.
func objdumpLine(line string) (addr uint64, code []byte, text string, ok bool) {
	parts := strings.Split(line, "\t")
	if len(parts) != 3 {
		return 0, nil, "", false
	}
	addr, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(parts[0]), ":"), 16, 64)
	if err != nil {
		return 0, nil, "", false
	}
	code, err = hexcode.DecodeString(strings.ReplaceAll(strings.TrimSpace(parts[1]), " ", ""))
	if err != nil {
		return 0, nil, "", false
	}
	text = comment.ReplaceAllString(parts[2]+" ", "")
	text = uniform(strings.ReplaceAll(text, ",", ", "))
	// Among the code are tables, in which objdump sees an alias of TEST, say, that
	// no compiler makes.
	table := text == "" || strings.HasPrefix(text, "(bad)") || strings.HasPrefix(text, "test") && code[0] == 0xf7 && code[1]>>3&7 == 1
	return addr, code, text, !table && !unlike.MatchString(text)
}

// uniform is a text without differences that mean nothing.
func uniform(text string) string {
	text = strings.Join(strings.Fields(strings.ToLower(text)), " ")
	if text == "data16 nop" {
		return "xchg ax, ax"
	}
	text = idle.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "+0x0]", "]") // a displacement that is there, and 0
	// The upper half is not loaded, whatever the name.
	if strings.HasPrefix(text, "mov ") {
		text = toSegment.ReplaceAllString(text, "mov $1, $2")
	}
	return text
}

var (
	register = regexp.MustCompile(`\b(r[0-9]+|[re]?(ax|bx|cx|dx|si|di|bp|sp)|[abcd][hl]|(si|di|bp|sp)l)([dwb]?)\b`)
	number   = regexp.MustCompile(`0x[0-9a-f]+`)
)

// form is a text with registers by their width, and numbers by their length.
func form(text string) string {
	text = register.ReplaceAllStringFunc(text, func(r string) string {
		switch {
		case strings.HasPrefix(r, "r") && !strings.HasSuffix(r, "d") && !strings.HasSuffix(r, "w") && !strings.HasSuffix(r, "b"):
			return "R8"
		case strings.HasPrefix(r, "e") || strings.HasSuffix(r, "d"):
			return "R4"
		case strings.HasSuffix(r, "l") || strings.HasSuffix(r, "h") || strings.HasSuffix(r, "b"):
			return "R1"
		}
		return "R2"
	})
	return number.ReplaceAllStringFunc(text, func(n string) string { return fmt.Sprint("N", (len(n)-1)/2) })
}
