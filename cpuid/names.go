package cpuid

import "strings"

// leafNames say what a leaf is about.
var leafNames = map[uint32]string{
	0x0: "vendor, highest leaf", 0x1: "processor and features", 0x2: "caches and TLBs", 0x4: "caches",
	0x5: "MONITOR/MWAIT", 0x6: "power management", 0x7: "more features", 0xa: "performance monitoring",
	0xb: "topology", 0xd: "XSAVE state", 0x14: "Processor Trace", 0x15: "TSC and crystal clock",
	0x16: "frequencies", 0x1f: "topology", 0x4000_0000: "hypervisor, highest leaf", 0x4000_0001: "KVM's features",
	0x4000_0010: "frequencies, by the hypervisor", 0x8000_0000: "highest extended leaf",
	0x8000_0001: "extended features", 0x8000_0002: "brand", 0x8000_0003: "brand", 0x8000_0004: "brand",
	0x8000_0005: "level 1 caches and TLBs", 0x8000_0006: "level 2 and 3 caches", 0x8000_0007: "power and RAS",
	0x8000_0008: "address sizes, and features", 0x8000_000a: "SVM", 0x8000_001d: "caches",
	0x8000_001e: "topology", 0x8000_001f: "memory encryption", 0x8000_0021: "more extended features",
	0x8000_0022: "performance monitoring",
}

// featureKey is a register of a leaf whose bits are features.
type featureKey struct {
	function, index uint32
	register        int // 0 to 3: EAX to EDX
}

const (
	eax = iota
	ebx
	ecx
	edx
)

// bits are names of bits 0, 1 and so on; "-" for a bit without one.
func bits(names string) []string { return strings.Fields(names) }

// featureNames are the names that /proc/cpuinfo has for them, where it has one.
var featureNames = map[featureKey][]string{
	{1, 0, ecx}: bits(`sse3 pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm
		- pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave osxsave avx f16c rdrand hypervisor`),
	{1, 0, edx}: bits(`fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov
		pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe`),
	{6, 0, eax}: bits(`dtherm ida arat - pln - pts hwp hwp_notify hwp_act_window hwp_epp hwp_pkg_req`),
	{7, 0, ebx}: bits(`fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm zero_fcs_fds mpx rdt_a
		avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl`),
	{7, 0, ecx}: bits(`prefetchwt1 avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq -
		la57 - - - - - rdpid kl bus_lock_detect cldemote - movdiri movdir64b enqcmd sgx_lc pks`),
	{7, 0, edx}: bits(`- sgx_keys avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect srbds_ctrl md_clear rtm_always_abort - tsx_force_abort serialize hybrid_cpu
		tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 spec_ctrl stibp flush_l1d arch_capabilities core_capabilities ssbd`),
	{7, 1, eax}: bits(`sha512 sm3 sm4 - avx_vnni avx512_bf16 lass cmpccxadd arch_perfmon_ext - fzrm fsrs fsrc - - -
		- fred lkgs wrmsrns - amx_fp16 hreset avx_ifma - - lam`),
	{0xd, 1, eax}: bits(`xsaveopt xsavec xgetbv1 xsaves xfd`),
	{0x4000_0001, 0, eax}: bits(`clocksource nop_io_delay mmu_op clocksource2 async_pf steal_time pv_eoi pv_unhalt - pv_tlb_flush async_pf_vmexit pv_send_ipi poll_control pv_sched_yield async_pf_int msi_ext_dest_id
		hc_map_gpa_range migration_control - - - - - - clocksource_stable`),
	{0x8000_0001, 0, ecx}: bits(`lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp
		fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx`),
	{0x8000_0001, 0, edx}: bits(`fpu vme de pse tsc msr pae mce cx8 apic - syscall mtrr pge mca cmov
		pat pse36 - mp nx - mmxext mmx fxsr fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow`),
	{0x8000_0007, 0, edx}: bits(`ts fid vid ttp tm stc 100mhzsteps hwpstate constant_tsc cpb aperfmperf`),
	{0x8000_0008, 0, ebx}: bits(`clzero irperf xsaveerptr invlpgb rdpru - mba - mcommit wbnoinvd - - ibpb int_wbinvd ibrs stibp
		ibrs_always_on stibp_always_on ibrs_preferred ibrs_same_mode no_efer_lmsle invlpgb_nested - amd_ppin amd_ssbd virt_ssbd amd_ssb_no cppc amd_psfd btc_no ibpb_ret`),
	{0x8000_000a, 0, edx}: bits(`npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid decodeassists - - pausefilter - pfthreshold avic - v_vmsave_vmload
		vgif gmet x2avic sss_check v_spec_ctrl ro_gpt - host_mce_override tlbi_ctl vnmi ibs_virt`),
	{0x8000_001f, 0, eax}: bits(`sme sev vm_page_flush sev_es sev_snp vmpl`),
	{0x8000_0021, 0, eax}: bits(`no_nested_data_bp fsgsbase_non_serializing lfence_rdtsc smm_pgcfg_lock - - null_sel_clr_base upper_address_ignore auto_ibrs no_smm_ctl_msr - - - prefetchctl - -
		- cpuid_user_dis`),
}
