/*
 * Stands between User-Mode Linux and ptrace(2) (LD_PRELOAD), on processors whose extended state is larger than the kernel
 * knows: its buffer has 2696 bytes, up to PKRU, and Linux refuses to set less than the whole of a process's state
 * (EFAULT, xstateregs_set() in arch/x86/kernel/fpu/regset.c). With AMX (Sapphire Rapids and later) the whole is 11 KiB: no
 * process starts in such a machine.
 *
 * What the kernel of the machine keeps is the beginning of the state. What is behind it (AMX tiles, APX registers) is set to its
 * initial state: no program gets it without asking for it first (Documentation/arch/x86/xstate.rst).
 */
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	/* XSTATE_BV, the components that are not in their initial state, is the first word of the header behind the legacy
	 * region (Intel SDM, volume 1, 13.4.2). */
	COMPONENTS_AT = 512,
	HEADER_END = 576,
	MAX_STATE = 64 << 10,
};

/* The components up to PKRU that Linux saves: x87, SSE, AVX, MPX, AVX-512 and PKRU. Where they lie is the same on all processors. */
static const uint64_t kept = 0x2ff;

/* Not on the stack: the kernel's are small. It has one processor, and is not interrupted by itself in here. */
static char state[MAX_STATE] __attribute__((aligned(64)));
/* Bytes of a process's whole state, once it was read. */
static size_t whole;

static long get(pid_t pid, struct iovec *into)
{
	struct iovec all = { state, sizeof(state) };
	long result = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all);

	if (result < 0)
		return result;
	whole = all.iov_len;
	if (into->iov_len > whole)
		into->iov_len = whole;
	memcpy(into->iov_base, state, into->iov_len);
	return result;
}

static long set(pid_t pid, struct iovec *from)
{
	struct iovec all = { state, whole };
	uint64_t components;

	if (whole <= from->iov_len || from->iov_len < HEADER_END)
		return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, from);
	memcpy(state, from->iov_base, from->iov_len);
	memset(state + from->iov_len, 0, whole - from->iov_len);
	memcpy(&components, state + COMPONENTS_AT, sizeof(components));
	components &= kept;
	memcpy(state + COMPONENTS_AT, &components, sizeof(components));
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	long result, word;

	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if ((uintptr_t)address == NT_X86_XSTATE && request == PTRACE_GETREGSET)
		return get(pid, data);
	if ((uintptr_t)address == NT_X86_XSTATE && request == PTRACE_SETREGSET)
		return set(pid, data);
	if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA && request != PTRACE_PEEKUSER)
		return syscall(SYS_ptrace, request, pid, address, data);
	/* The system call writes what it read to data; the function returns it (ptrace(2), C library/kernel differences). */
	result = syscall(SYS_ptrace, request, pid, address, &word);
	if (result < 0)
		return result;
	errno = 0;
	return word;
}
