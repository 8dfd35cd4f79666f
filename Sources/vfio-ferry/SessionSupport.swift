// SPDX-License-Identifier: Apache-2.0
internal import Engine
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Topology
internal import VFIO

/// What `save` and `load` have in common: devices made ready for a session, and signals that end it.
enum SessionSupport {
  /// Describes open devices for a session, as they are now.
  static func describe(_ devices: [OpenDevice]) throws(CommandFailure) -> [SessionDevice] {
    var described: [SessionDevice] = []
    for opened in devices {
      do throws(DeviceError) {
        let features = try opened.device.migrationFeatures()
        described.append(
          SessionDevice(
            name: "\(opened.device.name)", driver: opened.record.driver ?? "unknown", features: features,
            state: try opened.device.migrationState(),
            tag: TagScanner().tag(of: opened.record, features: features).encoded))
      } catch {
        if error.errno == .notTypewriter { throw .refused(DeviceAccess.notMigratable(opened.record)) }
        throw .failed("\(opened.device.name): \(error)")
      }
    }
    return described
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
  static func run<Machine: SessionMachine>(
    _ session: Machine, devices: [OpenDevice], channel: any Channel, checksum: StreamChecksum, buffers: Int,
    display: SessionDisplay
  ) throws(CommandFailure) -> Machine {
    do throws(SystemError) {
      let runner = try SessionRunner(
        devices: devices.map(\.device), channel: channel, checksum: checksum, buffers: buffers)
      SignalDesk.handle { signal in
        if signal != SIGUSR1 { runner.interrupt(reason: "signal \(signal)") }
      }
      defer { SignalDesk.keep() }
      let ended = try runner.run(
        session,
        observer: SessionRunner.Observer(
          note: { display.note($0, $1) }, progress: { display.progress($0, $1) }))
      display.end()
      return ended
    } catch {
      throw .failed("\(error)")
    }
  }

  /// What a script needs to know after a session that failed: where every device is, and how it came there.
  static func reportFailure(
    _ outcome: SessionOutcome, steps: JSON, names: [String], _ format: FormatOptions, _ console: Console
  ) {
    let devices = outcome.devices.map { device in
      JSON.object([
        "name": .string(device.name), "state": JSON(device.state?.name), "reset": .bool(device.wasReset),
        "hung": .bool(device.isHung),
      ])
    }
    let error = outcome.failure(names: names, doing: "this")?.message
    console.json(.object(["error": JSON(error), "devices": .array(devices), "steps": steps]), format)
  }

  /// Waits for a signal, holding the devices meanwhile.
  /// - Parameters:
  ///   - devices: they stay open until the signal has come, whatever an optimiser thinks of their last use.
  ///   - resumable: whether SIGUSR1 ends the wait too.
  ///   - announce: called once a signal would be noticed.
  /// - Returns: the signal's number.
  static func hold(_ devices: [OpenDevice], resumable: Bool, _ announce: () -> Void) -> Int32 {
    defer { withExtendedLifetime(devices) {} }
    let signals = BlockingQueue<Int32>()
    SignalDesk.handle { signal in
      if resumable || signal != SIGUSR1 { signals.put(signal) }
    }
    announce()
    return signals.take() ?? SIGTERM
  }
}
