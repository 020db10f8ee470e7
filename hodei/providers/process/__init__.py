"""Workers as plain processes of this machine, as the same user: for development and trusted self-hosted
machines.

Linux only. Root's jobs are root's, too. There is no wall between a job and the platform but the operating system's
user, and that jobs do not find the platform's own files where the kernel can hide them; say so where it is offered.
A worker is a folder named after its id; what runs is found by that folder, so a crash at any line leaves what can be
found.
"""
