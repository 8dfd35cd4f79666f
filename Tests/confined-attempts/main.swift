// SPDX-License-Identifier: Apache-2.0
// confined-attempts [USER | - [DEVICE]…]
//
// Confines itself as a helper does, as USER where one is given, and then tries what a helper needs and what it has no
// business with. For each a line on standard output: what was tried, and "allowed" or the error; then the PCI functions that
// it sees, who of the DEVICEs can reach whom as a helper finds it out, and their tags. What is refused is told of on standard
// error by the confinement itself. Standard input is kept, and descriptor 3, where systemd has put a connection.

import Attempts
import Glibc
import Helper
import LinuxIO
import Migration
import Topology

func say(_ text: String) {
  print(text)
  fflush(nil)
}

attempts_prepare()
let prefix = (LogLevel.standardErrorIsJournal ? LogLevel.warning.journalPrefix : "") + "confined-attempts: "
let isActivated = Execution.variable("LISTEN_FDS") != nil
do {
  let user = CommandLine.arguments.dropFirst().first.flatMap { $0 == "-" ? nil : ProcessUser($0) }
  let notifier = try ServiceNotifier.take()
  let kept = (isActivated ? [3] : []) + (notifier.map { [$0.descriptor.rawValue] } ?? [])
  for weakness in try Confinement(user: user).begin(keeping: kept, prefix: prefix) { say("weakness: \(weakness)") }
  try notifier?.ready()
} catch {
  say("not confined: \(error)")
  exit(3)
}
say("user: \(getuid()) \(geteuid()) \(getgid()) \(getegid())")
var number: Int32 = 0
while let name = unsafe attempt_name(number) {
  let error = attempt_make(number)
  let outcome = error == 0 ? "allowed" : unsafe attempt_error(error).map { unsafe String(cString: $0) } ?? "\(error)"
  say("\(unsafe String(cString: name)): \(outcome)")
  number += 1
}
for function in PCIScanner().tree(titles: false, rdma: false).functions { say("function: \(function)") }
let devices = CommandLine.arguments.dropFirst(2).compactMap { DeviceName($0) }
let reachability = KernelHost().reachability(of: devices)
for from in devices.indices {
  for to in devices.indices where to != from {
    say("\(devices[from]) to \(devices[to]): \(reachability[from, to])")
  }
}
for device in devices {
  let record = try? Inventory().device(device)
  say(
    "tag of \(device): \(record.map { "\(TagScanner(filesOnly: true).tag(of: $0).encoded)" } ?? "there is no such device")"
  )
}
