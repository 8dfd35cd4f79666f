// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import Topology
internal import Transport
internal import VFIO

struct TopologyCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "topology", abstract: "Show the PCI tree, who can reach whom, and in which order they would stop.",
    discussion: """
      Without DEV: the tree, with drivers, IOMMU groups, links, access control (ACS) and address translation (ATS), \
      which only root can see, and the RDMA devices. With several DEV also, for each ordered pair, whether the first can \
      start transfers to the second, by which way, and why. Nothing is bound or changed. RDMA devices are asked through \
      libibverbs, which opens their uverbs nodes; --plan and --root leave them alone.

      --plan explains how these devices would be brought to a stop together, or why no order can. What a device supports \
      is asked through --pid or --fd, or is what its driver usually offers; --assume says it instead.
      """)

  @OptionGroup var format: FormatOptions

  @Flag(help: "Leave nothing out and fold nothing: the chipset's own functions, empty ports, every virtual function.")
  var all = false

  @Flag(help: "Print the tree as a graph for Graphviz.")
  var dot = false

  @Flag(help: "Print the tree as a picture (SVG).")
  var svg = false

  @Flag(help: "Explain in which order the devices would stop and run again.")
  var plan = false

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("With --dot or --svg: where to write, instead of standard output.", valueName: "FILE"))
  var output: String?

  @Option(
    help: ArgumentHelp(
      "With --plan: what a device supports, of stop-copy, p2p and pre-copy. May be given many times.",
      valueName: "DEV=F,F…"))
  var assume: [String] = []

  @OptionGroup var peers: PeerOptions
  @OptionGroup var access: DeviceOptions

  @Option(
    help: ArgumentHelp(
      "Look at another system: a folder that holds a copy of its /sys (and /dev), as a support case may bring.",
      valueName: "DIR"))
  var root: String?

  @Argument(help: ArgumentHelp("The devices of one virtual machine.", valueName: "DEV"))
  var devices: [String] = []

  func validate() throws {
    if [dot, svg, format.wantsJSON].filter({ $0 }).count > 1 || ((dot || svg) && plan) {
      throw ValidationError("--dot, --svg, and --json or --plan are different outputs: choose one")
    }
    if root?.isEmpty == true { throw ValidationError("--root takes a folder, and it is empty") }
    if output != nil, !dot, !svg { throw ValidationError("-o goes with --dot or --svg") }
    if plan, devices.isEmpty { throw ValidationError("--plan takes the devices to stop together") }
    if !assume.isEmpty, !plan { throw ValidationError("--assume goes with --plan") }
    if access.group { throw ValidationError("--group opens devices, and topology does not") }
    if !access.way.binds, !plan { throw ValidationError("--pid and --fd go with --plan") }
    if !access.way.binds, root != nil {
      throw ValidationError("--root is another system: no process here holds its devices")
    }
    if access.fd != nil, devices.count > 1 { throw ValidationError("--fd goes with one device") }
    if peers.flush, !plan { throw ValidationError("--flush goes with --plan") }
  }

  func execute(_ console: Console) throws {
    var prefix = root ?? ""
    while prefix.hasSuffix("/") { prefix.removeLast() }
    if root != nil, !Files.exists("\(prefix)/sys") { throw CommandFailure.nothing("there is no \(prefix)/sys") }
    try execute(console, system: SystemRoot(prefix: prefix))
  }

  func execute(_ console: Console, system: SystemRoot) throws {
    let deviceAccess = DeviceAccess(way: access.way, inventory: Inventory(root: system))
    let records = try records(deviceAccess)
    // A plan is about ways alone.
    let tree = PCIScanner(root: system).tree(titles: !plan, rdma: !plan)
    if tree.functions.isEmpty, records.isEmpty { throw CommandFailure.nothing("this system has no PCI functions") }
    let reachability = try peers.reachability(of: records, tree: tree)
    if plan {
      try explain(records, reachability, deviceAccess, console)
      return
    }
    let view = TopologyView(
      tree: tree, records: records, reachability: reachability,
      onVFIO: Set(deviceAccess.inventory.devices().map { "\($0.name)" }), all: all)
    if format.wantsJSON {
      console.json(TopologyJSON(view: view).value, format)
    } else if dot {
      try write(TopologyDOT(view: view).lines.joined(separator: "\n") + "\n", console)
    } else if svg {
      try write(TopologySVG(view).document, console)
    } else {
      for line in TopologyText(view: view).lines { console.line(line) }
    }
  }

  private func records(_ deviceAccess: DeviceAccess) throws(CommandFailure) -> [DeviceRecord] {
    var records: [DeviceRecord] = []
    for text in devices {
      let record = try deviceAccess.record(DeviceAccess.name(text))
      if records.contains(where: { $0.sysfs == record.sysfs }) { throw .misuse("\(record.name) is named twice") }
      records.append(record)
    }
    return records
  }

  private func write(_ text: String, _ console: Console) throws(CommandFailure) {
    guard let output, output != "-" else {
      console.out(text)
      return
    }
    try OutputFile.write(text, to: output)
  }

  // MARK: The plan

  private func explain(
    _ records: [DeviceRecord], _ reachability: Reachability, _ deviceAccess: DeviceAccess, _ console: Console
  ) throws(CommandFailure) {
    let assumed = try assumptions(of: records)
    var planned: [PlannedDevice] = []
    for (record, features) in zip(records, assumed) {
      planned.append(try plannedDevice(record, assumed: features, deviceAccess, console))
    }
    do throws(QuiesceRefusal) {
      let plan = try TopologyPlan(devices: planned, reachability: reachability, flush: peers.flush)
      if format.wantsJSON {
        console.json(plan.json, format)
      } else {
        for line in plan.lines { console.line(line) }
      }
    } catch {
      if format.wantsJSON {
        console.json(error.json, format)
      } else {
        for line in error.lines { console.line(line) }
      }
      throw .refused("no order stops \(error.links.map(\.from).joined(separator: ", ")) consistently")
    }
  }

  /// What `--assume` says of each device.
  private func assumptions(of records: [DeviceRecord]) throws(CommandFailure) -> [MigrationFeatures?] {
    var assumed = [MigrationFeatures?](repeating: nil, count: records.count)
    for text in assume {
      let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2 else { throw .misuse("--assume takes DEV=stop-copy,p2p,pre-copy, not \"\(text)\"") }
      let name = try DeviceAccess.name(parts[0])
      guard let position = records.firstIndex(where: { $0.isMeant(by: name) }) else {
        throw .misuse("--assume names \(name), which is not one of the devices given")
      }
      var features = MigrationFeatures()
      for word in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
        switch word {
        case "stop-copy": features.insert(.stopCopy)
        case "p2p": features.insert(.p2p)
        case "pre-copy": features.insert(.preCopy)
        default: throw .misuse("--assume: there is no \"\(word)\"; it is stop-copy, p2p or pre-copy")
        }
      }
      guard features.contains(.stopCopy) else {
        throw .misuse("--assume: \(name) can't be migrated without stop-copy")
      }
      assumed[position] = features
    }
    return assumed
  }

  private func plannedDevice(
    _ record: DeviceRecord, assumed: MigrationFeatures?, _ deviceAccess: DeviceAccess, _ console: Console
  ) throws(CommandFailure) -> PlannedDevice {
    let name = "\(record.name)"
    if let assumed { return PlannedDevice(name: name, features: assumed, source: .assumed) }
    if !access.way.binds {
      let device = try deviceAccess.open(record, console: console)
      do throws(DeviceError) {
        return PlannedDevice(name: name, features: try device.migrationFeatures(), source: .device)
      } catch {
        throw error.errno == .notTypewriter
          ? .refused(DeviceAccess.notMigratable(record)) : .failed("\(name): \(error)")
      }
    }
    guard let driver = record.driver, let features = record.usualFeatures else {
      throw .refused(
        "nothing says what \(name) supports (its driver: \(record.driver ?? "none")): name the process that holds it "
          + "with --pid, or say what to try, as in --assume \(name)=stop-copy,p2p")
    }
    return PlannedDevice(name: name, features: features, source: .usual(driver: driver))
  }
}
