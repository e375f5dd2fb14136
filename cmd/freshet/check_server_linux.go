package main

import "syscall"

// dieWithParent has the kernel kill the process when the thread that started it
// ends, so that a checker which is killed leaves no server behind.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
