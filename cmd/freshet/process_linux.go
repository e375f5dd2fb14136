package main

import "syscall"

// dieWithParent has the kernel kill the process when the thread that started it
// ends, so that a program which is killed leaves none behind.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
