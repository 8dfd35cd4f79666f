// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import Topology

struct DoctorCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Say what is missing for migration, why it matters, and what mends it. Binds nothing.",
    discussion: """
      Without DEV: the host, and every device that VFIO can reach. With DEV, which may be on VFIO or not: the host, these \
      devices, and whether they can be stopped together. Run it as root: others may not read all of it.

      Exit status: 0 all is well; 3 something is missing, without which no migration works; 5 nothing is missing, but there \
      are warnings; 6 no warnings, but something could not be found out; 1, 2 and 4 as with every command.
      """)

  @OptionGroup var format: FormatOptions

  @Option(
    help: ArgumentHelp(
      "Judge permissions and limits as this process has them, such as a VMM, and not as this one.", valueName: "PID"))
  var pid: Int32?

  @Option(
    help: ArgumentHelp("How much memory the guest has: bytes, or with K, M, G or T.", valueName: "SIZE"),
    transform: Self.size)
  var guestMemory: UInt64?

  @Option(
    help: ArgumentHelp("With --guest-memory: how large the images of its devices are.", valueName: "SIZE"),
    transform: Self.size)
  var imageSize: UInt64?

  @Option(help: ArgumentHelp("For how many milliseconds its devices may be silent.", valueName: "MS"))
  var downtime: UInt64?

  @Option(
    help: ArgumentHelp(
      "With --downtime: the Local ACK Timeout of its RDMA peers' queue pairs, 0 to 31; see \"budget\".", valueName: "N")
  )
  var timeout: Int?

  @Option(help: ArgumentHelp("With --downtime: their retry_cnt, 0 to 7.", valueName: "N"))
  var retries: Int?

  @Flag(help: "With --downtime: their NICs choose time-outs themselves (adaptive retransmission).")
  var adaptive = false

  @OptionGroup var peers: PeerOptions

  @Option(
    help: ArgumentHelp(
      "Look at another system: a folder that holds a copy of its /sys, /dev, /proc, /boot and /lib/modules.",
      valueName: "DIR"))
  var root: String?

  @Argument(help: ArgumentHelp("The devices of one virtual machine.", valueName: "DEV"))
  var devices: [String] = []

  func validate() throws {
    if let pid, pid <= 0 { throw ValidationError("--pid takes the number of a process") }
    if pid != nil, root != nil { throw ValidationError("--root is another system: no process here is one of its own") }
    if root?.isEmpty == true { throw ValidationError("--root takes a folder, and it is empty") }
    if imageSize != nil, guestMemory == nil { throw ValidationError("--image-size goes with --guest-memory") }
    if let downtime, !(1...86_400_000).contains(downtime) {
      throw ValidationError("--downtime takes 1 to 86,400,000 ms")
    }
    guard (timeout == nil) == (retries == nil) else { throw ValidationError("--timeout and --retries go together") }
    if timeout != nil || adaptive, downtime == nil {
      throw ValidationError("--timeout, --retries and --adaptive go with --downtime")
    }
    if adaptive, timeout == nil { throw ValidationError("--adaptive goes with --timeout and --retries") }
    if let timeout, !RetryBudget.timeouts.contains(timeout) { throw ValidationError("--timeout takes 0 to 31") }
    if let retries, !RetryBudget.retryCounts.contains(retries) { throw ValidationError("--retries takes 0 to 7") }
    if peers.flush { throw ValidationError("--flush is for the commands that stop devices") }
    if devices.isEmpty, !(peers.link + peers.noLink).isEmpty {
      throw ValidationError("--link and --no-link are about the devices given")
    }
  }

  private static func size(_ text: String) throws -> UInt64 {
    guard let bytes = Quantity.bytes(text), bytes > 0 else {
      throw ValidationError("\"\(text)\" is no size: give bytes, or a number with K, M, G or T")
    }
    return bytes
  }

  func execute(_ console: Console) throws {
    var prefix = root ?? ""
    while prefix.hasSuffix("/") { prefix.removeLast() }
    if root != nil, !Files.exists("\(prefix)/sys") { throw CommandFailure.nothing("there is no \(prefix)/sys") }
    let system = SystemRoot(prefix: prefix)
    try execute(console, system: system, examination: HostExamination(root: system))
  }

  func execute(_ console: Console, system: SystemRoot, examination: HostExamination) throws {
    if let pid, !Files.exists("\(system.proc)/\(pid)/status") {
      throw CommandFailure.nothing("there is no process \(pid)")
    }
    let records = try records(DeviceAccess(inventory: Inventory(root: system)))
    let tree = PCIScanner(root: system).tree(titles: false, rdma: false)
    let diagnosis = Diagnosis(
      examination.facts(
        of: devices.isEmpty ? nil : records, tree: tree, pid: pid,
        reachability: devices.isEmpty ? nil : try peers.reachability(of: records, tree: tree),
        expectations: expectations))
    let report = DoctorReport(diagnosis)
    if format.wantsJSON {
      console.json(report.json, format)
    } else {
      for line in report.lines { console.line(line) }
    }
    if let status = report.status { throw CommandFailure(status: status, message: report.summary) }
  }

  private func records(_ access: DeviceAccess) throws(CommandFailure) -> [DeviceRecord] {
    var records: [DeviceRecord] = []
    for text in devices {
      let record = try access.record(DeviceAccess.name(text))
      if records.contains(where: { $0.sysfs == record.sysfs }) { throw .misuse("\(record.name) is named twice") }
      records.append(record)
    }
    return records
  }

  private var expectations: HostFacts.Expectations {
    var expectations = HostFacts.Expectations()
    expectations.guestMemory = guestMemory
    expectations.imageSize = imageSize
    expectations.downtime = downtime.map { $0 * 1_000_000 }
    if let timeout, let retries {
      expectations.peers = RetryBudget(scheme: adaptive ? .exponential : .fixed, timeout: timeout, retries: retries)
    }
    return expectations
  }
}
