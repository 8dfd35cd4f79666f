// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import Migration
internal import Transport

struct SendCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "send", abstract: "Move the state of devices to another host, where \"receive\" waits.",
    discussion: """
      With --pid this moves what a running VM has in its devices. Without, the devices are opened here, and opening a PCI \
      device resets it: see save.

      ADDRESS is tcp:HOST:PORT (IPv6 in brackets), unix:PATH, or fd:N, a connected socket that this program was started \
      with. TCP IS NEITHER ENCRYPTED NOR AUTHENTICATED: whoever can reach the port can send devices a state, and whoever is \
      on the way can read and change a guest's. Use it on a private network only. Elsewhere have ssh or stunnel carry it:

        there: vfio-ferry receive DEV… --listen unix:/run/ferry -- CMD…
        here:  ssh -N -o ServerAliveInterval=10 -o StreamLocalBindUnlink=yes -L /run/ferry:/run/ferry root@there &
               vfio-ferry send DEV… --to unix:/run/ferry

      Up to the commit everything can be taken back: a failure there or here, a lost connection, or a signal leaves every \
      device in the state it was found in. With the commit these devices are let go of, stopped, and the others may run. If \
      the connection is lost before the other side says that they do, nobody here knows: the devices stay stopped, and are \
      held until SIGUSR1 (they run again; make sure first that the others do not) or SIGTERM (they are let go of).
      """)

  @OptionGroup var format: FormatOptions
  @OptionGroup var access: DeviceOptions
  @OptionGroup var session: SessionOptions
  @OptionGroup var peers: PeerOptions
  @OptionGroup var connection: ConnectionOptions

  @Option(help: ArgumentHelp("Where \"receive\" waits.", valueName: "ADDRESS"))
  var to: String

  @Flag(inversion: .prefixedNo, help: "Send state ahead of the stop where the device offers it.")
  var preCopy = true

  @Argument(help: ArgumentHelp("The devices, in the order in which \"receive\" names its own.", valueName: "DEV"))
  var devices: [String]

  func validate() throws {
    if devices.isEmpty { throw ValidationError("name a device") }
    if devices.count > StreamFormat.maximumDevices {
      throw ValidationError("a stream holds at most \(StreamFormat.maximumDevices) devices")
    }
  }

  var changesDevices: Bool { true }

  func execute(_ console: Console) throws {
    if access.pid != nil, !session.force { throw CommandFailure.refused(StateCommand.needsForce) }
    let place = try ConnectionOptions.place(to, listens: false)
    let deviceAccess = DeviceAccess(way: access.way)
    let reachability = try SessionSupport.reachability(
      of: deviceAccess.check(devices), peers, inventory: deviceAccess.inventory)
    try SignalDesk.open()
    // Nobody is there to send to: that is found out while the devices are what they were.
    let channel = try connection.meet(at: place, defaultWait: 10) { rendezvous throws(TransportError) in
      try rendezvous.call()
    }
    let console = console.apart(from: channel)
    if SignalDesk.end != nil { throw ConnectionOptions.interrupted }
    let group = try OpenGroup(devices, deviceAccess, reachability, console: console)
    var configuration = SaveSession.Configuration()
    configuration.awaitsAnswers = true
    configuration.commits = true
    configuration.preCopy = preCopy
    configuration.resetAllowed = session.resetOnError
    configuration.quiescing = session.quiescing(peers)
    configuration.buffers = max(configuration.buffers, group.described.count)
    let ended = try SessionSupport.run(
      SaveSession(devices: group.described, plan: group.plan, configuration: configuration), group, channel: channel,
      buffers: configuration.buffers, verbose: session.verbose, console)
    channel.hangUp(within: 0)
    let commitment = JSON.Member(key: "commitment", value: .string(ended.outcome.commitment.word))
    ended.reportFailure(format, console, more: [commitment])
    if let failure = ended.outcome.failure(names: ended.names, doing: "sending") {
      try explain(failure, ended.outcome.commitment, group, console)
    }
    let downtime = ended.machine.downtime
    ended.report(
      place: ("to", to), downtime: downtime,
      summary: "moved: " + (downtime.map { "no device ran for \(Figures.time($0)), " } ?? "")
        + "\(Figures.time(ended.took)) in all",
      format, { console.line($0) }, more: [commitment])
  }

  /// Ends the command after a move that failed, as far as it had come.
  private func explain(
    _ failure: CommandFailure, _ commitment: Commitment, _ group: OpenGroup, _ console: Console
  ) throws -> Never {
    switch commitment {
    case .none, .offered:
      throw failure
    case .complete:
      throw CommandFailure.failed("\(failure.message); the move itself is done: the destination's devices run")
    case .unanswered:
      let doubt =
        "\(failure.message); the destination has everything, was told to run its devices, and has not said that it does: "
        + "THEY MAY RUN, so these stay stopped. Look there, at what \"vfio-ferry receive\" says and at \"vfio-ferry list\". "
        + "Only when they do not run, and never will, may these run again"
      guard access.way.binds else {
        let pid = access.way.pid.map { " --pid \($0)" } ?? ""
        throw CommandFailure.failed(
          "\(doubt): \"vfio-ferry state DEV\(pid) --force --through running-p2p\" for each, then \"--through running\"")
      }
      console.note("vfio-ferry: \(doubt)")
      // Whoever sent a signal before did not know this.
      _ = SignalDesk.forget()
      // A terminal that goes with the network, or an impatient hand, does not drop what may be the only copy.
      let runAgain = try SessionSupport.holdStopped(group, session, peers, endedBy: [SIGTERM], console)
      throw CommandFailure.failed(
        runAgain ? "not moved, on your word: the devices run here again" : "the devices were let go of, stopped")
    }
  }
}

extension SaveSession {
  /// How long no device ran, here or there, in microseconds; nil where the destination has not said that its devices do.
  var downtime: UInt64? {
    stopBegan.flatMap { began in destinationRan.map { $0.microseconds(since: began) } }
  }
}
