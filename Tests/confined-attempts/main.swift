// SPDX-License-Identifier: Apache-2.0
// confined-attempts [USER [FILES [SOCKETS [DEVICE]…]]]
//
// Confines itself as a helper does, as USER where one is given, with FILES and SOCKETS as the folders of its metrics' file
// and of their socket, and then tries what a helper needs and what it has no business with; what is empty is none. For each a
// line on standard output: what was tried, and "allowed" or the error; then the PCI functions that it sees, who of the DEVICEs
// can reach whom as a helper finds it out, and their tags. What is refused is told of on standard error by the confinement
// itself. Standard input is kept, and descriptor 3, where systemd has put a connection.

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
  let given = CommandLine.arguments.dropFirst().map { $0.isEmpty ? nil : $0 } + [nil, nil, nil]
  var confinement = Confinement(user: given[0].flatMap { ProcessUser($0) })
  confinement.fileFolder = given[1]
  confinement.socketFolder = given[2]
  let notifier = try ServiceNotifier.take()
  let kept = (isActivated ? [3] : []) + (notifier.map { [$0.descriptor.rawValue] } ?? [])
  for weakness in try confinement.begin(keeping: kept, prefix: prefix) { say("weakness: \(weakness)") }
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
let devices = CommandLine.arguments.dropFirst(4).compactMap { DeviceName($0) }
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
