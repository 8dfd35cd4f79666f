// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Synchronization
internal import VFIO

/// A device as everything in a helper has it, and word of when the last that had it has let it go.
///
/// A call that does not come back keeps the device open as long as it lasts, whoever has forgotten the device meanwhile. So
/// that it is closed is known here and nowhere else.
final class HeldDevice: MigratableDevice {
  let name: DeviceName
  let driver: String
  /// What a destination has to match: what was found out here, and what the VMM has said beside that.
  private let known: Mutex<[UInt8]>
  /// Nil at the very end only.
  private let adopted: Mutex<AdoptedDevice?>
  private let departure: Departure

  init(_ adopted: AdoptedDevice, _ departure: Departure) {
    name = adopted.device.name
    driver = adopted.driver
    known = Mutex(adopted.tag)
    self.adopted = Mutex(adopted)
    self.departure = departure
  }

  deinit {
    // First it is closed, and then whoever waits for that hears of it.
    adopted.withLock { $0 = nil }
    departure.note()
  }

  private var own: AdoptedDevice {
    guard let own = adopted.withLock({ $0 }) else { preconditionFailure("a device is asked after its end") }
    return own
  }

  var tag: [UInt8] { known.withLock { $0 } }

  /// Takes in what a VMM says of it.
  func take(tag text: [UInt8], _ id: UInt32) throws(HelperFailure) {
    let whole = try HandedTag(text, for: name, id).completing(tag)
    known.withLock { $0 = whole }
  }

  func offers(_ offers: inout TrackerOffers) -> [TrackerOffer] { own.offers(&offers) }
  func endLeftLog() { own.endLeftLog() }

  func migrationFeatures() throws(DeviceError) -> MigrationFeatures { try own.device.migrationFeatures() }
  func migrationState() throws(DeviceError) -> MigrationState { try own.device.migrationState() }
  func setMigrationState(_ state: MigrationState) throws(DeviceError) -> (any MigrationData)? {
    try own.device.setMigrationState(state)
  }
  func stopCopySize() throws(DeviceError) -> UInt64? { try own.device.stopCopySize() }
  func flush() throws(DeviceError) { try own.device.flush() }
  func reset() throws(DeviceError) { try own.device.reset() }
}

/// Whether a device is closed, and the request that waits for it.
final class Departure: Sendable {
  private struct State {
    var isGone = false
    var request: UInt32?
  }

  private let state = Mutex(State())
  private let mailbox: HelperMailbox

  init(_ mailbox: HelperMailbox) { self.mailbox = mailbox }

  /// The device is closed, or there never was one.
  func note() {
    let request = state.withLock { state in
      state.isGone = true
      return state.request.take()
    }
    if let request { mailbox.put(.finished(request, .done)) }
  }

  /// Has a request answered when the device is closed.
  func answer(_ request: UInt32) {
    let isGone = state.withLock { state in
      if !state.isGone { state.request = request }
      return state.isGone
    }
    if isGone { mailbox.put(.finished(request, .done)) }
  }

  /// The request waits no longer.
  /// - Returns: whether it did until now; otherwise its answer is in the mailbox.
  func giveUp() -> Bool { state.withLock { $0.request.take() != nil } }
}
