"""The AEAD of a session through libcrypto, compiled: see aead.py, which says what each method does."""

from tap2tap.workers import libcrypto

ctypedef void* (*New)()
ctypedef void (*Free)(void* context)
ctypedef int (*Init)(void* context, const void* cipher, void* engine, const unsigned char* key, const unsigned char* iv)
ctypedef int (*Update)(void* context, unsigned char* out, int* out_length, const unsigned char* data, int length)
ctypedef int (*Final)(void* context, unsigned char* out, int* out_length)
ctypedef int (*Ctrl)(void* context, int command, int length, void* data)

cdef enum:
    HEADER_LENGTH = 8
    TAG_LENGTH = 16
    EVP_CTRL_AEAD_GET_TAG = 0x10  # openssl/evp.h
    EVP_CTRL_AEAD_SET_TAG = 0x11

cdef New context_new = NULL
cdef Free context_free
cdef Ctrl ctrl
cdef Init encrypt_init, decrypt_init
cdef Update encrypt_update, decrypt_update
cdef Final encrypt_final, decrypt_final


cdef void* address(str name) except NULL:
    return <void*><size_t>libcrypto.address(name)


cdef int load() except -1:
    """Look the functions up, the first time."""
    global context_new, context_free, ctrl
    global encrypt_init, decrypt_init, encrypt_update, decrypt_update, encrypt_final, decrypt_final
    context_free = <Free>address("EVP_CIPHER_CTX_free")
    ctrl = <Ctrl>address("EVP_CIPHER_CTX_ctrl")
    encrypt_init = <Init>address("EVP_EncryptInit_ex")
    decrypt_init = <Init>address("EVP_DecryptInit_ex")
    encrypt_update = <Update>address("EVP_EncryptUpdate")
    decrypt_update = <Update>address("EVP_DecryptUpdate")
    encrypt_final = <Final>address("EVP_EncryptFinal_ex")
    decrypt_final = <Final>address("EVP_DecryptFinal_ex")
    context_new = <New>address("EVP_CIPHER_CTX_new")
    return 0


cdef class Aead:
    def __init__(self, int cipher, bytes key):
        if len(key) != 32:
            raise ValueError("a key has 32 bytes")
        evp_cipher = <void*><size_t>libcrypto.evp_cipher(cipher)
        if context_new is NULL:
            load()
        self.big = cipher == 1
        if self.sealing is NULL:
            self.sealing = context_new()
        if self.opening is NULL:
            self.opening = context_new()
        if (
            self.sealing is NULL
            or self.opening is NULL
            or encrypt_init(self.sealing, evp_cipher, NULL, key, NULL) != 1
            or decrypt_init(self.opening, evp_cipher, NULL, key, NULL) != 1
        ):
            raise OSError("libcrypto does not take the key")

    def __dealloc__(self):
        if self.sealing is not NULL:
            context_free(self.sealing)  # which overwrites the key
        if self.opening is not NULL:
            context_free(self.opening)

    cpdef int seal(self, Arena arena, Py_ssize_t at, Py_ssize_t length, unsigned long long counter) except -1:
        cdef unsigned char* header = arena.at(at, HEADER_LENGTH + length + TAG_LENGTH)
        cdef unsigned char* text = header + HEADER_LENGTH
        cdef int done
        self.set_nonce(counter)
        if (
            length < 0
            or self.sealing is NULL
            or encrypt_init(self.sealing, NULL, NULL, NULL, self.nonce) != 1
            or encrypt_update(self.sealing, NULL, &done, header, HEADER_LENGTH) != 1
            or (length and (encrypt_update(self.sealing, text, &done, text, <int>length) != 1 or done != length))
            or encrypt_final(self.sealing, text + length, &done) != 1
            or ctrl(self.sealing, EVP_CTRL_AEAD_GET_TAG, TAG_LENGTH, text + length) != 1
        ):
            raise RuntimeError("libcrypto cannot seal")
        return 0

    cpdef bint open(self, Arena arena, Py_ssize_t at, Py_ssize_t length, unsigned long long counter) except -1:
        cdef unsigned char* header = arena.at(at, HEADER_LENGTH + length + TAG_LENGTH)
        cdef unsigned char* text = header + HEADER_LENGTH
        cdef int done
        self.set_nonce(counter)
        if (
            length < 0
            or self.opening is NULL
            or decrypt_init(self.opening, NULL, NULL, NULL, self.nonce) != 1
            or decrypt_update(self.opening, NULL, &done, header, HEADER_LENGTH) != 1
            or ctrl(self.opening, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH, text + length) != 1
            or (length and (decrypt_update(self.opening, text, &done, text, <int>length) != 1 or done != length))
        ):
            arena.zero(at + HEADER_LENGTH, length)
            raise RuntimeError("libcrypto cannot open")
        if decrypt_final(self.opening, text + length, &done) != 1:
            arena.zero(at + HEADER_LENGTH, length)
            return False
        return True

    cdef int set_nonce(self, unsigned long long counter) noexcept:
        """Write the counter to bytes 4 to 11 of the nonce."""
        cdef int i
        for i in range(8):
            self.nonce[11 - i if self.big else 4 + i] = <unsigned char>(counter >> 8 * i)
        return 0
