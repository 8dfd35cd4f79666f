// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import Transport

struct LoadCommand: CommandGiver {
  static let configuration = CommandConfiguration(
    commandName: "load", abstract: "Write saved state into devices.",
    usage: "vfio-ferry load [OPTIONS] FILE DEV… [-- CMD…]",
    discussion: """
      What the stream says of its devices is compared with these before one of them is touched. A file is checked whole then; \
      a pipe can't be, and where it breaks off the devices are reset, which is said.

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
  @OptionGroup var tags: TagOptions

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
    case format, access, session, peers, tags, keepStopped, file, devices
  }

  func validate() throws {
    if devices.isEmpty { throw ValidationError("name a device") }
  }

  var changesDevices: Bool { true }

  func execute(_ console: Console) throws {
    if access.pid != nil, !session.force { throw CommandFailure.refused(StateCommand.needsForce) }
    try SessionSupport.checkCommand(command)
    let deviceAccess = DeviceAccess(way: access.way)
    let reachability = try SessionSupport.reachability(
      of: deviceAccess.check(devices), peers, inventory: deviceAccess.inventory)
    let input = try InputFile(file)
    let channel = RewoundChannel(input.channel)
    let sources: [StreamManifest.Device]
    if input.isFile {
      // Whatever is wrong with a file is found here, while the devices are what they were.
      sources = try StreamSummary(input).devices.map(\.manifest)
      guard input.channel.rewind() else { throw CommandFailure.failed("\(input.channel.name) can't be read twice") }
      try SignalDesk.open()
    } else {
      try SignalDesk.open()
      let first = try SessionSupport.firstItem(of: channel)
      guard case .manifest(let manifest) = first, !manifest.commits else {
        throw CommandFailure.failed(
          "\(channel.name): \(StreamSummary.problem(first: first) ?? ""); nothing was changed")
      }
      sources = manifest.devices
    }
    channel.rewind()
    let compared = try deviceAccess.compare(sources, with: devices, tags.policy, console)
    if SignalDesk.end != nil { throw ConnectionOptions.interrupted }
    let group = try OpenGroup(devices, deviceAccess, reachability, compared: compared, console: console)
    var configuration = LoadSession.Configuration()
    configuration.keepStopped = keepStopped
    configuration.resetAllowed = session.resetOnError
    configuration.tagPolicy = tags.policy
    configuration.quiescing = session.quiescing(peers)
    configuration.buffers = max(configuration.buffers, group.described.count)
    let ended = try SessionSupport.run(
      LoadSession(devices: group.described, plan: group.plan, configuration: configuration), group,
      channel: channel, buffers: configuration.buffers, verbose: session.verbose, console)
    ended.reportFailure(format, console)
    if case .mismatch(let reason) = ended.outcome.fault { throw deviceAccess.refusal(reason, of: group.opened) }
    if let failure = ended.outcome.failure(names: ended.names, doing: "loading") { throw failure }
    ended.report(place: ("file", file), format, console)
    if let signal = SignalDesk.end, !command.isEmpty {
      throw CommandFailure.failed("signal \(signal) came: \(command[0]) is not run, and the devices are let go")
    }
    if command.isEmpty {
      // Somebody else's devices are held by somebody else.
      guard access.way.binds else { return }
      _ = SessionSupport.hold(group.opened, resumable: false) {
        console.note("holding \(ended.names.joined(separator: ", ")): SIGTERM, SIGINT or SIGHUP lets go of them")
      }
    } else {
      do throws(SystemError) {
        try SessionSupport.handOver(group.opened, to: command)
      } catch {
        throw CommandFailure.failed("\(error); the devices were loaded, and are let go")
      }
    }
  }
}
