// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Engine
internal import LinuxIO
internal import Migration
internal import Transport

struct ReceiveCommand: CommandGiver {
  static let configuration = CommandConfiguration(
    commandName: "receive", abstract: "Take in the state of devices that \"send\" moves here from another host.",
    usage: "vfio-ferry receive [OPTIONS] --listen ADDRESS DEV… [-- CMD…]",
    discussion: """
      Listens for one connection and no second one; the stream's devices are compared with these before one of them is \
      opened, and the source is told why they do not fit. When everything is in the devices the source lets go of its own, \
      and only then do these run.

      ADDRESS is tcp:HOST:PORT (IPv6 in brackets; port 0 is one that is free), unix:PATH (a socket that this user and root \
      may connect to), or fd:N, a connected socket that this program was started with. TCP IS NEITHER ENCRYPTED NOR \
      AUTHENTICATED: the first that reaches the port fills the devices. Use it on a private network only; send has an \
      example with ssh.

      A PCI device forgets everything when its last descriptor closes. So with CMD the devices' descriptors are handed to it \
      when they run and the source was told so, and it takes this program's place, as with load; without, they are held \
      until SIGTERM, SIGINT or SIGHUP. Once the source has let go there is no other copy: where CMD can't be run, or a signal \
      came too late to go back, the devices are held too, and that is said.

      With --pid the state goes into devices that a process holds; that needs --force, and the process must not run its \
      vCPUs or touch the devices meanwhile.
      """)

  @OptionGroup var format: FormatOptions
  @OptionGroup var access: DeviceOptions
  @OptionGroup var session: SessionOptions
  @OptionGroup var peers: PeerOptions
  @OptionGroup var tags: TagOptions
  @OptionGroup var connection: ConnectionOptions

  @Option(help: ArgumentHelp("Where \"send\" connects to.", valueName: "ADDRESS"))
  var listen: String

  @Argument(help: ArgumentHelp("The devices, in the order in which \"send\" names its own.", valueName: "DEV"))
  var devices: [String]

  /// See ``LoadCommand/command``.
  var command: [String] = []

  private enum CodingKeys: CodingKey {
    case format, access, session, peers, tags, connection, listen, devices
  }

  func validate() throws {
    if devices.isEmpty { throw ValidationError("name a device") }
  }

  var changesDevices: Bool { true }

  func execute(_ console: Console) throws {
    if access.pid != nil, !session.force { throw CommandFailure.refused(StateCommand.needsForce) }
    try SessionSupport.checkCommand(command)
    let place = try ConnectionOptions.place(listen, listens: true)
    let deviceAccess = DeviceAccess(way: access.way)
    let reachability = try SessionSupport.reachability(
      of: deviceAccess.check(devices), peers, inventory: deviceAccess.inventory)
    try SignalDesk.open()
    let channel = RewoundChannel(
      try connection.meet(at: place, defaultWait: nil) { rendezvous throws(TransportError) in
        try rendezvous.answer(
          listening: { console.note("listening on \($0)") }, refused: { console.note("\($0) may not connect") },
          connected: { console.note("connected: \($0)") })
      })
    let console = console.apart(from: channel)
    let group = try opened(channel, deviceAccess, reachability, console)
    var configuration = LoadSession.Configuration()
    configuration.answers = true
    configuration.resetAllowed = session.resetOnError
    configuration.tagPolicy = tags.policy
    configuration.quiescing = session.quiescing(peers)
    configuration.buffers = max(configuration.buffers, group.described.count)
    let ended = try SessionSupport.run(
      LoadSession(devices: group.described, plan: group.plan, configuration: configuration), group, channel: channel,
      buffers: configuration.buffers, verbose: session.verbose, console)
    let outcome = ended.outcome
    channel.hangUp(within: outcome.commitment == .complete ? 0 : Self.farewellLimit)
    let commitment = JSON.Member(key: "commitment", value: .string(outcome.commitment.word))
    if outcome.commitment != .complete { ended.reportFailure(format, console, more: [commitment]) }
    if case .mismatch(let reason) = outcome.fault { throw deviceAccess.refusal(reason, of: group.opened) }
    let failure = outcome.failure(names: ended.names, doing: "receiving")
    switch outcome.commitment {
    case .none:
      throw failure ?? CommandFailure.failed("receiving ended without a commit")
    case .offered:
      throw CommandFailure.failed(
        "\(failure?.message ?? "receiving failed"); everything had been loaded, and whether the source lets go was not heard: "
          + "look at what \"vfio-ferry send\" says; its devices are stopped if it did")
    case .unanswered:
      console.note(
        "vfio-ferry: \(failure?.message ?? "receiving failed"); THE SOURCE HAS LET GO: what these devices hold is in no "
          + "others, and those that are named as in running do run")
      _ = SignalDesk.forget()
      hold(group, console)
      throw CommandFailure.failed("not all devices came to run")
    case .complete:
      break
    }
    // A device that came to run with a second attempt is no reason to drop all of them.
    if let failure { console.note("vfio-ferry: \(failure.message); all devices run") }
    ended.report(place: ("from", listen), format, console, more: [commitment])
    try keep(group, console)
  }

  /// Time for the source to read why this side gave up, in microseconds.
  private static let farewellLimit: UInt64 = 2_000_000

  /// Reads the manifest, compares it, and opens the devices. Where that fails the source is told why.
  private func opened(
    _ channel: RewoundChannel, _ deviceAccess: DeviceAccess, _ reachability: Reachability, _ console: Console
  ) throws -> OpenGroup {
    let manifest = try manifest(channel)
    do throws(CommandFailure) {
      let compared = try deviceAccess.compare(manifest.devices, with: devices, tags.policy, console)
      if SignalDesk.end != nil { throw ConnectionOptions.interrupted }
      channel.rewind()
      return try OpenGroup(devices, deviceAccess, reachability, compared: compared, console: console)
    } catch {
      // It may be gone already; what is to be said here stays the same.
      try? channel.giveUp(StreamReason(error.message), checksum: .xxh3)
      channel.hangUp(within: Self.farewellLimit)
      throw error
    }
  }

  private func manifest(_ channel: RewoundChannel) throws(CommandFailure) -> StreamManifest {
    guard case .manifest(let manifest) = try SessionSupport.firstItem(of: channel) else {
      throw .failed("\(channel.name): it holds a destination's answers, and no devices; nothing was changed")
    }
    guard manifest.commits else {
      throw .failed(
        "\(channel.name): a saved stream, whose source does not say when it lets go of its devices: use load; nothing was "
          + "changed")
    }
    return manifest
  }

  /// The devices run, and what they hold is in no others: they go to the command, or are held.
  private func keep(_ group: OpenGroup, _ console: Console) throws {
    if let signal = SignalDesk.forget() {
      console.note("signal \(signal) came when the source had let go: too late to go back")
      if let program = command.first { console.note("\(program) is not run") }
    } else if !command.isEmpty {
      do throws(SystemError) {
        try SessionSupport.handOver(group.opened, to: command)
      } catch {
        console.note("vfio-ferry: \(error); the devices run, and are held")
        hold(group, console)
        throw CommandFailure.failed("\(command[0]) was not run")
      }
    }
    hold(group, console)
    if let program = command.first { throw CommandFailure.failed("\(program) was not run") }
  }

  private func hold(_ group: OpenGroup, _ console: Console) {
    // Somebody else's devices are held by somebody else.
    guard access.way.binds else { return }
    _ = SessionSupport.hold(group.opened, resumable: false) {
      console.note("holding \(group.names.joined(separator: ", ")): SIGTERM, SIGINT or SIGHUP lets go of them")
    }
  }
}
