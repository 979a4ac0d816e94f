// lwipopts.h: lwIP as this system needs it. lwip/opt.h describes the options.
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

// One thread, and its callbacks.
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0

// IPv4, with what it takes to be reached: ARP, ping, DHCP, TCP.
#define LWIP_ARP 1
#define LWIP_ICMP 1
#define LWIP_DHCP 1
#define DHCP_DOES_ARP_CHECK 0 // which takes a second
#define LWIP_IPV6 0
#define LWIP_UDP 1
#define LWIP_DNS 0
#define LWIP_RAW 0
#define LWIP_ACD 0
#define LWIP_AUTOIP 0
#define LWIP_IGMP 0
#define IP_REASSEMBLY 0 // HTTP needs no fragments
#define IP_FRAG 0
#define LWIP_STATS 0
#define LWIP_NETIF_STATUS_CALLBACK 1

// Memory: pbufs of what is sent come from malloc, and all the rest from pools,
// which bound what clients can take.
#define MEM_LIBC_MALLOC 1
#define MEM_ALIGNMENT 8
#define MEMP_NUM_TCP_PCB 256
#define MEMP_NUM_TCP_PCB_LISTEN 1
#define MEMP_NUM_TCP_SEG 1024
#define MEMP_NUM_PBUF 64
#define MEMP_NUM_UDP_PCB 1
#define PBUF_POOL_SIZE 128
#define PBUF_POOL_BUFSIZE 1536 // a frame

#define TCP_MSS 1460
#define TCP_WND (16 * TCP_MSS)
#define TCP_SND_BUF (24 * TCP_MSS)
#define TCP_SND_QUEUELEN 64
#define TCP_LISTEN_BACKLOG 1
#define TCP_DEFAULT_LISTEN_BACKLOG 128

// The first sequence number of a connection is not to be guessed. RFC 6528.
#define LWIP_HOOK_TCP_ISN(local_ip, local_port, remote_ip, remote_port) random32()

// Before a segment is looked at: serve.c.
struct tcp_pcb;
signed char serve_make_room(const struct tcp_pcb *pcb);
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, header, options, first, second, p) serve_make_room(pcb)

#endif
