// SPDX-License-Identifier: Apache-2.0
internal import Engine
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Topology
internal import Transport
internal import VFIO

/// What `save`, `load`, `send` and `receive` have in common: devices made ready for a session, and signals that end it.
enum SessionSupport {
  /// Where the rules of the NICs' switches in the tags of open devices come from. Reading them takes as long as there are many
  /// on the host, and a guest may stand still meanwhile.
  enum RulesOfTags {
    case read
    /// What was read of each device before it was opened.
    case known([String?])
    /// Nobody will look at them.
    case unneeded
  }

  /// Describes open devices for a session, as they are now.
  static func describe(_ devices: [OpenDevice], rules: RulesOfTags) throws(CommandFailure) -> [SessionDevice] {
    var described: [SessionDevice] = []
    for opened in devices {
      do throws(DeviceError) {
        described.append(
          SessionDevice(
            name: "\(opened.device.name)", driver: opened.record.driver ?? "unknown",
            features: try opened.device.migrationFeatures(), state: try opened.device.migrationState()))
      } catch {
        if error.errno == .notTypewriter { throw .refused(DeviceAccess.notMigratable(opened.record)) }
        throw .failed("\(opened.device.name): \(error)")
      }
    }
    let readsRules = if case .read = rules { true } else { false }
    let tags = TagScanner(readsRules: readsRules).tags(
      of: zip(devices, described).map { ($0.record, $1.features) })
    for (index, tag) in tags.enumerated() {
      var tag = tag
      if case .known(let known) = rules { tag[.eswitchRules] = known[index] }
      described[index].tag = tag.encoded
    }
    return described
  }

  /// The beginning of a stream, while the devices are what they were. A signal ends the wait for it.
  static func firstItem(of channel: any Channel) throws(CommandFailure) -> StreamItem {
    let buffer: TransferBuffer
    do throws(SystemError) {
      buffer = try TransferBuffer(count: StreamFormat.maximumDataSize)
    } catch {
      throw .failed("\(error)")
    }
    SignalDesk.handle { if $0 != SIGUSR1 { channel.cancel() } }
    defer { SignalDesk.keep() }
    var source = FrameSource(channel: channel, checksum: .xxh3)
    do throws(FrameSource.Fault) {
      return try source.next(buffer: buffer)
    } catch {
      switch error {
      case .channel(let error) where error.errno.rawValue == ECANCELED: throw ConnectionOptions.interrupted
      case .channel(let error): throw .failed("\(error); nothing was changed")
      case .stream(let error): throw .failed("\(channel.name): \(error); nothing was changed")
      }
    }
  }

  /// Who of the devices can start transfers to whom. Asked before they are opened, because a wrong option must cost
  /// nothing.
  static func reachability(
    of records: [DeviceRecord], _ peers: PeerOptions, inventory: Inventory
  ) throws(CommandFailure) -> Reachability {
    // One device alone has no peers; the tree need not be read.
    let tree =
      records.count > 1
      ? PCIScanner(root: inventory.root).tree(titles: false, rdma: false) : PCITree(functions: [], hasIOMMU: false)
    return try peers.reachability(of: records, tree: tree)
  }

  /// Runs a session that signals can end.
  /// - Parameter buffers: as many as its configuration says.
  static func run<Machine: SessionMachine>(
    _ session: Machine, _ group: OpenGroup, channel: any Channel, buffers: Int, verbose: Bool, _ console: Console
  ) throws(CommandFailure) -> EndedSession<Machine> {
    let display = SessionDisplay(console: console, names: group.names, verbose: verbose)
    let began = monotonicMicroseconds()
    do throws(SystemError) {
      let runner = try SessionRunner(
        devices: group.opened.map(\.device), channel: channel, checksum: .xxh3, buffers: buffers)
      SignalDesk.handle { signal in
        if signal != SIGUSR1 { runner.interrupt(reason: "signal \(signal)") }
      }
      defer { SignalDesk.keep() }
      let ended = try runner.run(
        session,
        observer: SessionRunner.Observer(
          note: { display.note($0, $1) }, progress: { display.progress($0, $1) }))
      display.end()
      guard let outcome = ended.outcome else { preconditionFailure("a session ends with an outcome") }
      return EndedSession(
        machine: ended, outcome: outcome, names: group.names, began: MonotonicTime(microseconds: began),
        took: monotonicMicroseconds() - began)
    } catch {
      throw .failed("\(error)")
    }
  }

  /// Waits for a signal, holding the devices meanwhile.
  /// - Parameters:
  ///   - devices: they stay open until the signal has come, whatever an optimiser thinks of their last use.
  ///   - resumable: whether SIGUSR1 ends the wait too.
  ///   - ends: the other signals that end it.
  ///   - announce: called once a signal would be noticed.
  /// - Returns: the signal's number.
  static func hold(
    _ devices: [OpenDevice], resumable: Bool, endedBy ends: [Int32] = [SIGTERM, SIGINT, SIGHUP], _ announce: () -> Void
  ) -> Int32 {
    defer { withExtendedLifetime(devices) {} }
    let signals = BlockingQueue<Int32>()
    SignalDesk.handle { signal in
      if ends.contains(signal) || (resumable && signal == SIGUSR1) { signals.put(signal) }
    }
    announce()
    return signals.take() ?? SIGTERM
  }

  /// Holds stopped devices until a signal says whether they run again (SIGUSR1) or are let go of as they are.
  /// - Parameter ends: the signals that let go of them.
  /// - Returns: whether they run again.
  static func holdStopped(
    _ group: OpenGroup, _ options: SessionOptions, _ peers: PeerOptions,
    endedBy ends: [Int32] = [SIGTERM, SIGINT, SIGHUP],
    _ console: Console
  ) throws(CommandFailure) -> Bool {
    let signal = hold(group.opened, resumable: true, endedBy: ends) {
      console.note("holding \(group.opened.count) stopped: SIGUSR1 lets them run again, SIGTERM lets them go")
    }
    guard signal == SIGUSR1 else { return false }
    let resumed = try run(
      ResumeSession(
        devices: describe(group.opened, rules: .unneeded), plan: group.plan, resetAllowed: options.resetOnError,
        configuration: options.quiescing(peers)),
      group, channel: NoChannel(), buffers: 0, verbose: options.verbose, console)
    if let failure = resumed.outcome.failure(names: resumed.names, doing: "running again") { throw failure }
    return true
  }
}
