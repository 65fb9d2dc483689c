/*
 * Linked into the static binary by .ci/release.
 *
 * A static program still loads modules of the machine that it runs on when it looks up a host or a user, those that /etc/nsswitch.conf
 * names, and they were built for another C library. Files and DNS are inside the program, and nothing else is asked.
 */
#include <nss.h>

__attribute__((constructor)) static void resolve_inside(void)
{
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("services", "files");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
}
