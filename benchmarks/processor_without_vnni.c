/* Preloaded into a process, this hides what its x86 processor has: ONNX Runtime then runs the kernels that it has for an
 * older one, natively and at full speed.
 *
 *   LD_PRELOAD=./processor_without_vnni.so LACO_HIDE=vnni|avx512 python …
 *
 * Linux can make CPUID fault in user space (arch_prctl(2), ARCH_CPUID); threads that are started later inherit it. The
 * handler executes the instruction, clears bits of the answer and steps over it. Bits: Intel, "Intel 64 and IA-32
 * Architectures Software Developer's Manual", volume 2A, CPUID.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef ARCH_SET_CPUID
#define ARCH_SET_CPUID 0x1012
#endif
#define BIT(n) (1u << (n))

static int hides_avx512;
static struct sigaction earlier;

static long let_cpuid(int run) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, run); }

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    if (info->si_code != SI_KERNEL || instruction[0] != 0x0f || instruction[1] != 0xa2) {
        sigaction(signal_number, &earlier, NULL); /* not CPUID: it faults again, for whoever handles that */
        return;
    }
    uint32_t leaf = registers[REG_RAX], subleaf = registers[REG_RCX], a, b, c, d;
    let_cpuid(1);
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(subleaf));
    let_cpuid(0);
    if (leaf == 7 && subleaf == 0) {
        c &= ~BIT(11);                         /* AVX512_VNNI */
        d &= ~(BIT(22) | BIT(24) | BIT(25));   /* AMX: BF16, tiles, INT8 */
        if (hides_avx512) {
            b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31)); /* F, DQ, IFMA, CD, BW, VL */
            c &= ~(BIT(1) | BIT(6) | BIT(12) | BIT(14));                       /* VBMI, VBMI2, BITALG, VPOPCNTDQ */
            d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(23));                        /* 4VNNIW, 4FMAPS, VP2INTERSECT, FP16 */
        }
    }
    if (leaf == 7 && subleaf == 1) {
        a &= ~(BIT(4) | BIT(5) | BIT(23)); /* AVX-VNNI, AVX512_BF16, AVX-IFMA */
        d &= ~(BIT(4) | BIT(5) | BIT(10)); /* AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16 */
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void)
{
    const char *what = getenv("LACO_HIDE");
    struct sigaction action;
    if (what == NULL)
        return;
    hides_avx512 = strcmp(what, "avx512") == 0;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGSEGV, &action, &earlier) == 0)
        let_cpuid(0);
}
