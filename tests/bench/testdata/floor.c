/*
 * floor.c: the least that a monitor can do. It starts the same machine as vmm
 * with the same system calls to KVM and nothing around them: no flags, no
 * checks, no devices. What it takes is what KVM takes; the rest of vmm's time
 * is vmm's own.
 *
 *     floor KERNEL MEMORY-MIB [plain]
 *
 * With "plain" it is the program that one writes first: the interrupt
 * controllers and the timer come before memory, as in KVM's documentation, and
 * the end is left to the kernel.
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COM1 = 0x3f8, DEBUG_EXIT = 0xf4 };

static int check(int result, const char *what)
{
	if (result < 0)
		err(2, "%s", what);
	return result;
}

#define IOCTL(fd, request, arg) check(ioctl(fd, request, arg), #request)

/* Loads the segments of an ELF file and returns its PVH entry. */
static uint32_t load(const char *path, uint8_t *ram, size_t size)
{
	int fd = check(open(path, O_RDONLY | O_CLOEXEC), path);
	struct stat st;
	check(fstat(fd, &st), path);
	uint8_t *file = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (file == MAP_FAILED)
		err(2, "%s", path);
	Elf64_Ehdr *header = (Elf64_Ehdr *)file;
	Elf64_Phdr *segments = (Elf64_Phdr *)(file + header->e_phoff);
	uint32_t entry = 0;
	for (int i = 0; i < header->e_phnum; i++) {
		Elf64_Phdr *s = &segments[i];
		if (s->p_type == PT_LOAD && s->p_paddr + s->p_memsz <= size)
			memcpy(ram + s->p_paddr, file + s->p_offset, s->p_filesz);
		if (s->p_type == PT_NOTE) /* the one note of guest.S */
			memcpy(&entry, file + s->p_offset + sizeof(Elf64_Nhdr) + 4, sizeof entry);
	}
	munmap(file, st.st_size);
	close(fd);
	return entry;
}

int main(int argc, char **argv)
{
	if (argc != 3 && argc != 4)
		errx(2, "usage: floor KERNEL MEMORY-MIB [plain]");
	int plain = argc == 4;
	size_t size = strtoul(argv[2], NULL, 0) << 20;

	int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	IOCTL(kvm, KVM_GET_API_VERSION, 0);
	static const int caps[] = {
		KVM_CAP_USER_MEMORY, KVM_CAP_SET_TSS_ADDR, KVM_CAP_SET_IDENTITY_MAP_ADDR, KVM_CAP_IRQCHIP,
		KVM_CAP_PIT2, KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_MAX_VCPUS,
	};
	for (size_t i = 0; i < sizeof caps / sizeof *caps; i++)
		IOCTL(kvm, KVM_CHECK_EXTENSION, caps[i]);
	int mmap_size = IOCTL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	/* The board. */
	int vm = IOCTL(kvm, KVM_CREATE_VM, 0);
	uint64_t identity_map = 0xfffbc000;
	IOCTL(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	IOCTL(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	if (plain) {
		struct kvm_pit_config pit = { 0 };
		IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
		IOCTL(vm, KVM_CREATE_PIT2, &pit);
	}

	/* Memory. */
	uint8_t *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram == MAP_FAILED)
		err(2, "mmap");
	struct kvm_userspace_memory_region region = { .memory_size = size, .userspace_addr = (uintptr_t)ram };
	IOCTL(vm, KVM_SET_USER_MEMORY_REGION, &region);

	/* Interrupt controllers; before memory they cost 5 ms more. */
	if (!plain)
		IOCTL(vm, KVM_CREATE_IRQCHIP, 0);

	/* One processor, as firmware would leave it. */
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .head = { .nent = 256 } };
	IOCTL(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	int vcpu = IOCTL(vm, KVM_CREATE_VCPU, 0);
	struct kvm_run *run = mmap(NULL, mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(2, "mmap of kvm_run");
	ioctl(vcpu, KVM_GET_TSC_KHZ, 0);
	IOCTL(vcpu, KVM_SET_CPUID2, &cpuid);
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[2];
	} msrs = { .head = { .nmsrs = 1 }, .entries = { { .index = 0x1a0 }, { .index = 0x2ff, .data = 0x806 } } };
	IOCTL(vcpu, KVM_GET_MSRS, &msrs);
	msrs.entries[0].data |= 1;
	msrs.head.nmsrs = 2;
	IOCTL(vcpu, KVM_SET_MSRS, &msrs);
	struct kvm_lapic_state lapic;
	IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
	uint32_t extint = 7 << 8, nmi = 4 << 8;
	memcpy(lapic.regs + 0x350, &extint, 4);
	memcpy(lapic.regs + 0x360, &nmi, 4);
	IOCTL(vcpu, KVM_SET_LAPIC, &lapic);

	/* The kernel, and the registers of a PVH start. */
	uint32_t entry = load(argv[1], ram, size);
	struct kvm_sregs sregs;
	IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	struct kvm_segment data = { .limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .s = 1, .g = 1, .db = 1 };
	sregs.cs = data;
	sregs.cs.selector = 0x10;
	sregs.cs.type = 0xb;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1 };
	sregs.ldt = (struct kvm_segment){ .unusable = 1 };
	sregs.cr0 = 0x31;
	IOCTL(vcpu, KVM_SET_SREGS, &sregs);
	struct kvm_regs regs = { .rip = entry, .rflags = 2 };
	IOCTL(vcpu, KVM_SET_REGS, &regs);

	for (;;) {
		check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
		if (run->exit_reason != KVM_EXIT_IO)
			errx(2, "exit reason %u", run->exit_reason);
		uint8_t *data = (uint8_t *)run + run->io.data_offset;
		switch (run->io.port) {
		case COM1:
			check(write(STDOUT_FILENO, data, 1), "write");
			break;
		case DEBUG_EXIT: {
			int status = *data << 1 | 1;
			if (plain)
				return status;
			munmap(run, mmap_size);
			close(vcpu);
			region.memory_size = 0; /* else the end takes 7 ms longer */
			IOCTL(vm, KVM_SET_USER_MEMORY_REGION, &region);
			close(vm);
			return status;
		}
		}
	}
}
