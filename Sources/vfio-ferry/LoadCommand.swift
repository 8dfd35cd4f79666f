// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Topology
internal import Transport
internal import VFIO

struct LoadCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "load", abstract: "Write saved state into devices.",
    usage: "vfio-ferry load [OPTIONS] FILE DEV… [-- CMD…]",
    discussion: """
      A file is checked whole, and compared with the devices, before a device is touched; a pipe can't be, and where it \
      breaks off the devices are reset, which is said.

      A PCI device forgets everything when its last descriptor closes. So with CMD the devices' descriptors are handed \
      to it, and it takes this program's place; without, they are held until SIGTERM, SIGINT or SIGHUP. CMD finds the numbers \
      in its environment: VFIO_FERRY_DEVICES as NAME=NUMBER, separated by spaces, in the order given, and \
      VFIO_FERRY_IOMMUFD or VFIO_FERRY_GROUPS (GROUP=NUMBER,CONTAINER).

      With --pid the state goes into devices that a process holds; that needs --force, and the process must not run its \
      vCPUs or touch the devices meanwhile.
      """)

  @OptionGroup var format: FormatOptions
  @OptionGroup var access: DeviceOptions
  @OptionGroup var session: SessionOptions
  @OptionGroup var peers: PeerOptions

  @Option(help: "How much of the compatibility tags has to match: strict, loose, none.", transform: TagPolicy.named)
  var policy = TagPolicy.loose

  @Flag(help: "Leave the devices in stop, for a VMM to start.")
  var keepStopped = false

  @Argument(help: ArgumentHelp("The file; - is standard input.", valueName: "FILE"))
  var file: String

  @Argument(help: ArgumentHelp("The devices, in the order of the stream.", valueName: "DEV"))
  var devices: [String]

  /// What stands behind "--": the program takes it off the command line before the rest is parsed, because a list of
  /// devices would swallow it.
  var command: [String] = []

  private enum CodingKeys: CodingKey {
    case format, access, session, peers, policy, keepStopped, file, devices
  }

  func validate() throws {
    if devices.isEmpty { throw ValidationError("name a device") }
  }

  var changesDevices: Bool { true }

  func execute(_ console: Console) throws {
    if access.pid != nil, !session.force { throw CommandFailure.refused(StateCommand.needsForce) }
    if let program = command.first, Files.program(program) == nil {
      throw CommandFailure.nothing("there is no program \(program) to hand the devices to")
    }
    let deviceAccess = DeviceAccess(way: access.way)
    let reachability = try SessionSupport.reachability(
      of: deviceAccess.check(devices), peers, inventory: deviceAccess.inventory)
    let input = try InputFile(file)
    if input.isFile {
      // Whatever is wrong with a file is found here, while the devices are what they were.
      let summary = try StreamSummary(input)
      try compare(summary, deviceAccess)
      guard input.channel.rewind() else { throw CommandFailure.failed("\(input.channel.name) can't be read twice") }
    }
    try SignalDesk.open()
    let opened = try deviceAccess.open(devices, console: console)
    let described = try SessionSupport.describe(opened)
    if let refusal = LoadSession.refusal(devices: described) { throw deviceAccess.refusal(refusal, of: opened) }
    let plan = try deviceAccess.plan(described, reachability, of: opened)
    var configuration = LoadSession.Configuration()
    configuration.keepStopped = keepStopped
    configuration.resetAllowed = session.resetOnError
    configuration.tagPolicy = policy
    configuration.quiescing = session.quiescing(peers)
    configuration.buffers = max(configuration.buffers, described.count)
    let names = described.map(\.name)
    let display = SessionDisplay(console: console, names: names, verbose: session.verbose)
    let began = monotonicMicroseconds()
    let ended = try SessionSupport.run(
      LoadSession(devices: described, plan: plan, configuration: configuration), devices: opened,
      channel: input.channel,
      checksum: .xxh3, buffers: configuration.buffers, display: display)
    let took = monotonicMicroseconds() - began
    guard let outcome = ended.outcome else { preconditionFailure("a session ends with an outcome") }
    let start = MonotonicTime(microseconds: began)
    let steps = JSON.array(ended.steps.map { $0.json(names: names, since: start) })
    if format.wantsJSON, outcome.fault != nil {
      SessionSupport.reportFailure(outcome, steps: steps, names: names, format, console)
    }
    if case .mismatch(let reason) = outcome.fault { throw deviceAccess.refusal(reason, of: opened) }
    if let failure = outcome.failure(names: names, doing: "loading") { throw failure }
    report(ended, outcome, steps: steps, took: took, console)
    if let signal = SignalDesk.end, !command.isEmpty {
      throw CommandFailure.failed("signal \(signal) came: \(command[0]) is not run, and the devices are let go")
    }
    if command.isEmpty {
      // Somebody else's devices are held by somebody else.
      guard access.way.binds else { return }
      _ = SessionSupport.hold(opened, resumable: false) {
        console.note("holding \(names.joined(separator: ", ")): SIGTERM, SIGINT or SIGHUP lets go of them")
      }
    } else {
      try handOver(opened)
    }
  }

  /// Compares a stream with devices that are not open yet, as far as sysfs tells.
  private func compare(_ summary: StreamSummary, _ deviceAccess: DeviceAccess) throws(CommandFailure) {
    let sources = summary.devices.map(\.manifest)
    var targets: [SessionDevice] = []
    for (index, text) in devices.enumerated() {
      let record = try deviceAccess.record(DeviceAccess.name(text))
      // What the device supports is compared once it says so itself; until then it counts as a match.
      let features = sources.indices.contains(index) ? sources[index].features : []
      var tag = TagScanner(root: deviceAccess.inventory.root).tag(of: record)
      if sources.indices.contains(index) {
        tag[.features] = (try? CompatibilityTag(decoding: sources[index].tag))?[.features]
      }
      targets.append(
        SessionDevice(
          name: "\(record.name)", driver: record.driver ?? "none", features: features, state: .running,
          tag: tag.encoded))
    }
    if let mismatch = LoadSession.mismatch(
      manifest: StreamManifest(devices: sources), devices: targets, policy: policy)
    {
      throw .refused(mismatch)
    }
  }

  private func report(
    _ session: LoadSession, _ outcome: SessionOutcome, steps: JSON, took: UInt64, _ console: Console
  ) {
    if format.wantsJSON {
      let devices = zip(outcome.devices, zip(session.progress, session.vmmStates)).map { device, figures in
        JSON.object([
          "name": .string(device.name), "state": JSON(device.state?.name), "bytes": .unsigned(figures.0.bytes),
          "vmm_state_bytes": JSON(figures.1?.count),
        ])
      }
      console.json(
        .object([
          "file": .string(file), "devices": .array(devices), "total_us": .unsigned(took), "steps": steps,
        ]), format)
      return
    }
    for (device, progress) in zip(outcome.devices, session.progress) {
      console.line("\(device.name): \(progress.bytes) bytes loaded; \(device.state?.name ?? "unknown")")
    }
    console.line("\(Figures.time(took)) in all")
  }

  /// Gives the descriptors to the command and becomes it.
  private func handOver(_ opened: [OpenDevice]) throws {
    // Nothing names them any more once the command runs, and until then nothing may close them.
    defer { withExtendedLifetime(opened) {} }
    do throws(SystemError) {
      var numbers: [String] = []
      var support: [HandedOver] = []
      for device in opened {
        numbers.append("\(device.device.name)=\(try device.device.handOver())")
        if let handed = try device.device.support?.handOver(), !support.contains(handed) { support.append(handed) }
      }
      // What an earlier vfio-ferry left in the environment means nothing here.
      for variable in ["VFIO_FERRY_IOMMUFD", "VFIO_FERRY_GROUPS"] { Execution.setVariable(variable, nil) }
      Execution.setVariable("VFIO_FERRY_DEVICES", numbers.joined(separator: " "))
      // One iommufd serves all devices; groups are as many as there are.
      if let variable = support.first?.variable {
        Execution.setVariable(variable, support.map(\.value).joined(separator: " "))
      }
      try Execution.replace(with: command)
    } catch {
      throw CommandFailure.failed("\(error); the devices were loaded, and are let go")
    }
  }
}
